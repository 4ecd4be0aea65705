//! Power cuts
