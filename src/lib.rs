//! lunette.
