//! stub
#[derive(Debug)]
pub struct Memory;
#[derive(Debug)]
pub enum Pages {
    Huge,
    Ordinary,
}
