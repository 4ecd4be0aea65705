use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::*;
use crate::net::Waker;
use crate::net::listen::{Accepted, accept, listen};
use crate::net::wake::wake_pair;

const ID: Key = Key { index: 7, generation: 3 };
/// No wait below is meant to last; this ends a test that is broken.
const LONG: Wait = Wait::AtMostNs(20 * SECOND_NS);

/// A connection over loopback: our end, not yet adopted, and the peer's.
fn connection() -> (OwnedFd, TcpStream) {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let Accepted::Connection { socket, .. } = accept(&listener) else { panic!("a connection waits") };
    (socket, peer)
}

fn adopted() -> (KernelNet, Sock, TcpStream) {
    let mut net = KernelNet::new(4).unwrap();
    let (handle, peer) = connection();
    let sock = net.adopt(handle, ID).unwrap();
    (net, sock, peer)
}

fn told(net: &mut KernelNet, wait: Wait) -> Vec<Readiness> {
    let mut out = Vec::with_capacity(8);
    net.ready(&mut out, wait);
    out
}

fn await_readable(net: &mut KernelNet) {
    loop {
        let out = told(net, LONG);
        assert!(!out.is_empty(), "nothing became ready");
        assert!(out.iter().all(|readiness| readiness.id == ID));
        if out.iter().any(|readiness| readiness.readable) {
            return;
        }
    }
}

fn recv(net: &mut KernelNet, sock: Sock, bytes: usize) -> (Rx, Vec<u8>) {
    let mut to = vec![0; bytes];
    let rx = net.recv(sock, &mut [IoSliceMut::new(&mut to)]);
    if let Rx::Received { bytes, .. } = rx {
        to.truncate(bytes);
    }
    (rx, to)
}

#[test]
fn an_edge_is_told_once() {
    let (mut net, sock, mut peer) = adopted();
    assert_eq!(told(&mut net, LONG), [Readiness { id: ID, readable: false, writable: true }]);
    assert_eq!(told(&mut net, Wait::Poll), []);
    assert_eq!(recv(&mut net, sock, 4).0, Rx::WouldBlock);
    peer.write_all(b"ab").unwrap();
    await_readable(&mut net);
    assert_eq!(told(&mut net, Wait::Poll), [], "unread, but told");
    peer.write_all(b"c").unwrap();
    await_readable(&mut net);
    assert_eq!(recv(&mut net, sock, 4), (Rx::Received { bytes: 3, drained: true }, b"abc".to_vec()));
}

#[test]
fn a_full_read_is_not_drained() {
    let (mut net, sock, mut peer) = adopted();
    peer.write_all(b"abcde").unwrap();
    await_readable(&mut net);
    assert_eq!(recv(&mut net, sock, 3), (Rx::Received { bytes: 3, drained: false }, b"abc".to_vec()));
    let (mut head, mut rest) = ([0; 1], [0; 8]);
    let rx = net.recv(sock, &mut [IoSliceMut::new(&mut head), IoSliceMut::new(&mut rest)]);
    assert_eq!(rx, Rx::Received { bytes: 2, drained: true });
    assert_eq!((&head, &rest[..1]), (b"d", &b"e"[..]));
    assert_eq!(net.recv(sock, &mut []), Rx::Received { bytes: 0, drained: false });
}

#[test]
fn data_and_end_told_together_are_both_read() {
    let (mut net, sock, mut peer) = adopted();
    peer.write_all(b"last").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    // Until the end itself is told, not only the data before it.
    while !net.sockets.get(sock.0).unwrap().ending {
        assert!(!told(&mut net, LONG).is_empty());
    }
    assert_eq!(recv(&mut net, sock, 64), (Rx::Received { bytes: 4, drained: false }, b"last".to_vec()));
    assert_eq!(recv(&mut net, sock, 64).0, Rx::Closed);
    // The peer still listens.
    assert_eq!(net.send(sock, &[IoSlice::new(b"bye")]), Tx::Sent(3));
    net.close(sock);
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"bye");
}

#[test]
fn an_end_after_a_drained_read_is_a_new_edge() {
    let (mut net, sock, mut peer) = adopted();
    peer.write_all(b"x").unwrap();
    await_readable(&mut net);
    assert_eq!(recv(&mut net, sock, 8).0, Rx::Received { bytes: 1, drained: true });
    drop(peer);
    await_readable(&mut net);
    assert_eq!(recv(&mut net, sock, 8).0, Rx::Closed);
}

#[test]
fn a_reset_is_broken_both_ways() {
    let (mut net, sock, peer) = adopted();
    assert_eq!(told(&mut net, LONG).len(), 1);
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(told(&mut net, LONG), [Readiness { id: ID, readable: true, writable: true }]);
    assert_eq!(recv(&mut net, sock, 8).0, Rx::Broken);
    assert_eq!(net.send(sock, &[IoSlice::new(b"x")]), Tx::Broken);
    assert_eq!(net.send(sock, &[IoSlice::new(b"x")]), Tx::Broken);
}

#[test]
fn a_send_takes_what_fits_and_room_is_told() {
    let mut net = KernelNet::new(1).unwrap();
    let (handle, mut peer) = connection();
    rustix::net::sockopt::set_socket_send_buffer_size(&handle, 64 * 1024).unwrap();
    let sock = net.adopt(handle, ID).unwrap();
    let pattern: Vec<u8> = (0..16_000_000u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    let (mut sent, mut blocked) = (0, 0);
    while sent < pattern.len() {
        // More slices than one call may have.
        let from: Vec<IoSlice<'_>> = pattern[sent..].chunks(1000).map(IoSlice::new).collect();
        match net.send(sock, &from) {
            Tx::Sent(bytes) => sent += bytes,
            Tx::WouldBlock => {
                blocked += 1;
                while !told(&mut net, LONG).iter().any(|readiness| readiness.writable) {}
            }
            Tx::Broken => panic!("broken after {sent} bytes"),
        }
    }
    net.close(sock);
    assert!(reader.join().unwrap() == pattern);
    assert!(blocked > 0);
}

#[test]
fn another_thread_ends_a_wait() {
    let mut net = KernelNet::new(1).unwrap();
    let (waker, fd) = wake_pair().unwrap();
    net.register(fd.raw()).unwrap();
    net.register(fd.raw()).unwrap();
    assert!(net.register(-1).is_err());
    let thread = std::thread::spawn(move || waker.wake());
    assert_eq!(told(&mut net, Wait::Forever), []);
    // It is a level: until drained no wait waits.
    assert_eq!(told(&mut net, Wait::Forever), []);
    assert!(fd.drain());
    thread.join().unwrap();
}

#[test]
fn a_bounded_wait_ends_and_is_finer_than_a_millisecond() {
    let mut net = KernelNet::new(1).unwrap();
    // Many, as others may have the processors for a while.
    let shortest = (0..200)
        .map(|_| {
            let before = Instant::now();
            assert_eq!(told(&mut net, Wait::AtMostNs(200_000)), []);
            before.elapsed()
        })
        .min()
        .unwrap();
    assert!(shortest >= Duration::from_micros(200), "{shortest:?}");
    assert!(shortest < Duration::from_millis(1), "{shortest:?}");
}

#[test]
fn no_more_is_told_than_there_is_room_for_and_nothing_is_lost() {
    let mut net = KernelNet::new(4).unwrap();
    let mut peers = Vec::new();
    for index in 0..4 {
        let (handle, peer) = connection();
        net.adopt(handle, Key { index, generation: 0 }).unwrap();
        peers.push(peer);
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut out = Vec::with_capacity(1);
        net.ready(&mut out, Wait::Poll);
        assert_eq!((out.len(), out.capacity()), (1, 1));
        net.ready(&mut out, Wait::Forever);
        seen.push(out[0].id.index);
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
    assert_eq!(told(&mut net, Wait::Poll), []);
}

#[test]
fn a_released_connection_lives_on_elsewhere_and_stale_names_find_nothing() {
    let (mut net, sock, mut peer) = adopted();
    let handle = net.release(sock);
    assert_eq!(recv(&mut net, sock, 1).0, Rx::Broken);
    assert_eq!(net.send(sock, &[IoSlice::new(b"x")]), Tx::Broken);
    net.close(sock);
    let mut other = KernelNet::new(1).unwrap();
    let moved = other.adopt(handle, ID).unwrap();
    peer.write_all(b"m").unwrap();
    await_readable(&mut other);
    assert_eq!(recv(&mut other, moved, 1).1, b"m");
    assert_eq!(told(&mut net, Wait::Poll), []);
    let (second, _peer) = connection();
    assert!(other.adopt(second, ID).is_err(), "one slot");
}
