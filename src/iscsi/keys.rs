//! The text keys of RFC 7143 §13, as a table.
