//! Connections of the bare echo pair (lunette-wire): iSCSI's headers without its login. What a login would settle is
//! settled here: immediate data of up to 256 KiB, no digests.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use lunette_initiator::Serial;
use lunette_initiator::pdu::request::ScsiCommand;
use lunette_initiator::pdu::{Bhs, Digests, opcode};
use lunette_initiator::scsi::{Capacity, cdb};

use crate::aim::Unit;
use crate::conn::Terms;
use crate::error::LoadError;
use crate::login::{Ready, connect};
use crate::options::{Options, WIRE_IO_BYTES_MAX};

/// What every connection begins with. The server does not hold requests back: its window is wide enough for all depths.
const TERMS: Terms = Terms {
    digests: Digests { header: false, data: false },
    immediate_bytes: WIRE_IO_BYTES_MAX,
    unsolicited_bytes: WIRE_IO_BYTES_MAX,
    send_bytes_max: WIRE_IO_BYTES_MAX,
    recv_bytes_max: WIRE_IO_BYTES_MAX,
    cmd_sn: Serial(1),
    max_cmd_sn: Serial(4096),
    exp_stat_sn: Serial(1),
};

/// Connects `count` times.
///
/// # Errors
/// The socket.
pub fn connect_all(address: SocketAddr, count: u32) -> Result<Vec<Ready>, LoadError> {
    let connected = (0..count).map(|_| {
        let stream = connect(address)?;
        stream.set_nonblocking(true)?;
        Ok((stream, TERMS, Vec::new()))
    });
    connected.collect::<io::Result<_>>().map_err(LoadError::Io)
}

/// Asks for the size of the one logical unit: READ CAPACITY (16) is the only other command that the server knows.
///
/// # Errors
/// The server, or a size that does not suit.
pub fn units(options: &Options) -> Result<Vec<Unit>, LoadError> {
    let unexpected = || LoadError::Usage(format!("--wire: {} is no lunette-wire", options.portal));
    let mut stream = connect(options.portal)?;
    let cdb = cdb::read_capacity_16(32);
    let command = ScsiCommand {
        final_bit: true,
        read: true,
        expected_bytes: 32,
        cdb,
        cmd_sn: 1,
        ..ScsiCommand::default()
    };
    stream.write_all(&command.bhs().0)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let mut header = [0; 48];
    stream.read_exact(&mut header).map_err(|_| unexpected())?;
    let mut data = [0; 32];
    let header = Bhs(header);
    if header.opcode() != opcode::DATA_IN || header.data_bytes() != 32 {
        return Err(unexpected());
    }
    stream.read_exact(&mut data)?;
    let capacity = Capacity::decode_16(&data).ok_or_else(unexpected)?;
    Ok(vec![Unit::new(0, capacity, options.bs, options.span).map_err(LoadError::Usage)?])
}
