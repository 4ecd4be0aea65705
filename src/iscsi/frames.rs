//! PDUs out of a byte stream, for the two machines that run on the control thread.
