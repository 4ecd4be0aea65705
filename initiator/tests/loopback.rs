//! The socket driver against a target of a few lines, on loopback: it answers one login, then READ CAPACITY, reads and
//! writes of a small disk, pings and the logout, one PDU at a time.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use lunette_initiator::pdu::request::{LogoutRequest, NopOut, Request, ScsiCommand};
use lunette_initiator::pdu::response::{DataIn, LoginResponse, LogoutResponse, NopIn, ScsiResponse};
use lunette_initiator::pdu::{Deframer, Digests, NO_TAG, Pdu};
use lunette_initiator::socket::{SocketError, Wire};
use lunette_initiator::{Auth, Client, Command, Config, Offer};

const BLOCKS: usize = 64;

fn config() -> Config {
    Config { auth: Auth::Skip, offer: Offer::default(), ..Config::new("iqn.i", "iqn.t") }
}

/// Starts the target for one connection.
fn target() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, std::thread::spawn(move || serve(&listener)))
}

fn serve(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut disk = vec![0; BLOCKS * 512];
    let mut deframer = Deframer::new(8192);
    let (mut stat_sn, mut exp_cmd_sn) = (0, 1);
    let mut buffer = [0; 1000];
    loop {
        let bytes = stream.read(&mut buffer).unwrap();
        if bytes == 0 {
            return;
        }
        let mut input = &buffer[..bytes];
        while let Some(pdu) = deframer.next(&mut input).unwrap() {
            let request = Request::decode(&pdu.bhs);
            if matches!(request, Request::ScsiCommand(_) | Request::NopOut(_)) {
                exp_cmd_sn += 1;
            }
            let answer = answer(request, pdu.data, &mut disk, (stat_sn, exp_cmd_sn));
            stat_sn += 1;
            let mut out = Vec::new();
            answer.encode(Digests::default(), &mut out);
            stream.write_all(&out).unwrap();
            if matches!(request, Request::Logout(_)) {
                return;
            }
        }
    }
}

fn answer(request: Request, data: &[u8], disk: &mut [u8], (stat_sn, exp_cmd_sn): (u32, u32)) -> Pdu {
    let max_cmd_sn = exp_cmd_sn + 7;
    match request {
        Request::Login(login) => LoginResponse {
            transit: true,
            current_stage: 1,
            next_stage: 3,
            isid: login.isid,
            tsih: 1,
            stat_sn,
            exp_cmd_sn,
            max_cmd_sn,
            ..LoginResponse::default()
        }
        .with([]),
        Request::NopOut(NopOut { itt, .. }) => {
            NopIn { itt, ttt: NO_TAG, stat_sn, exp_cmd_sn, max_cmd_sn, lun: 0 }.with(data)
        }
        Request::Logout(LogoutRequest { itt, .. }) => {
            LogoutResponse { itt, stat_sn, exp_cmd_sn, max_cmd_sn, ..LogoutResponse::default() }.with([])
        }
        Request::ScsiCommand(command) => command_answer(command, data, disk, (stat_sn, exp_cmd_sn)),
        other => panic!("{other:?}"),
    }
}

fn command_answer(
    command: ScsiCommand,
    data: &[u8],
    disk: &mut [u8],
    (stat_sn, exp_cmd_sn): (u32, u32),
) -> Pdu {
    let (itt, max_cmd_sn) = (command.itt, exp_cmd_sn + 7);
    // Byte 9 is enough of the address, byte 13 of the length.
    let start = usize::from(command.cdb[9]) * 512;
    let end = start + usize::from(command.cdb[13]) * 512;
    let mut capacity = [0; 32];
    capacity[7] = u8::try_from(BLOCKS - 1).unwrap();
    capacity[10] = 2;
    let read = match command.cdb[0] {
        0x9e => &capacity[..],
        0x88 => &disk[start..end],
        0x8a => {
            disk[start..end].copy_from_slice(data);
            return ScsiResponse { itt, stat_sn, exp_cmd_sn, max_cmd_sn, ..ScsiResponse::default() }.with([]);
        }
        // Anything else is a unit attention.
        _ => {
            let response =
                ScsiResponse { status: 2, itt, stat_sn, exp_cmd_sn, max_cmd_sn, ..ScsiResponse::default() };
            return response.with([0, 3, 0x70, 0, 6]);
        }
    };
    DataIn {
        final_bit: true,
        has_status: true,
        itt,
        ttt: NO_TAG,
        stat_sn,
        exp_cmd_sn,
        max_cmd_sn,
        ..DataIn::default()
    }
    .with(read)
}

#[test]
fn a_client_reads_what_it_wrote() {
    let (address, target) = target();
    let mut client = Client::connect(address, config()).unwrap();
    assert_eq!(client.capacity().unwrap().count_blocks, 64);
    let data: Vec<u8> = (0..2048).map(|n| u8::try_from(n % 251).unwrap()).collect();
    client.write(3, &data).unwrap();
    assert_eq!(client.read(3, 4).unwrap(), data);
    assert_eq!(client.read(7, 1).unwrap(), [0; 512]);
    assert_eq!(client.ping(b"are you there").unwrap(), b"are you there");
    client.logout().unwrap();
    client.wait_closed(Duration::from_secs(10)).unwrap();
    target.join().unwrap();
}

#[test]
fn many_commands_in_flight() {
    let (address, target) = target();
    let mut client = Client::connect(address, config()).unwrap();
    let mut read = [0; 16];
    (read[0], read[13]) = (0x88, 1);
    let tags: Vec<u32> =
        (0..100).map(|_| client.session().command(Command::read(0, read, 512)).unwrap()).collect();
    // Fetched in another order than they end in.
    for itt in tags.into_iter().rev() {
        assert_eq!(client.completion(itt).unwrap().data, [0; 512]);
    }
    client.logout().unwrap();
    target.join().unwrap();
}

#[test]
fn errors_are_told() {
    let (address, target) = target();
    let mut client = Client::connect(address, config()).unwrap();
    let error = client.command([0; 16], lunette_initiator::Data::None).unwrap_err();
    assert!(matches!(error, SocketError::Status(completion) if completion.sense == [0x70, 0, 6]));
    assert!(client.wait_event(Duration::ZERO).unwrap().is_none());
    drop(client);
    target.join().unwrap();
}

#[test]
fn a_bare_wire() {
    let (address, target) = target();
    let mut wire = Wire::connect(address).unwrap();
    let outcome = wire.login(&config()).unwrap();
    assert_eq!(outcome.params.tsih, 1);
    wire.send_bytes(&NopOut { itt: 5, ttt: NO_TAG, cmd_sn: 1, ..NopOut::default() }.bhs().0).unwrap();
    let echo = wire.receive().unwrap().unwrap();
    assert_eq!((echo.bhs.opcode(), echo.bhs.itt()), (0x20, 5));
    wire.shutdown_write().unwrap();
    assert!(wire.receive().unwrap().is_none());
    target.join().unwrap();
}
