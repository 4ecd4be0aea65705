//! stub
#[derive(Debug)]
pub struct Cdb;
