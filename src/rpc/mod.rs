//! JSON-RPC 2.0 over a UNIX socket, with SPDK's method names. Not there yet: `serve --rpc-socket` says so.
