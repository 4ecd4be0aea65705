//! stub
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sense;
