//! stub: the owner is writing it
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ua {
    PowerOn,
}
