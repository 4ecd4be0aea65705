//! An iSCSI initiator, sans-IO, with a socket driver.
