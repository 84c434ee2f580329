//! Netlink requests.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// Sends a request for one object, or for all of a kind (`dump`), and keeps the part of each reply that `select` returns: the
/// replies themselves are large. Replies that this version cannot parse are left out.
pub(super) fn query<M, T>(protocol: isize, request: M, dump: bool, mut select: impl FnMut(M) -> Option<T>) -> io::Result<Vec<T>>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = if dump { NLM_F_REQUEST | NLM_F_DUMP } else { NLM_F_REQUEST };
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some(length) = rest.get(..4).and_then(|l| l.try_into().ok()).map(u32::from_ne_bytes) {
            // each message is padded to four bytes (netlink(7))
            let Some(one) = usize::try_from(length).ok().filter(|l| *l >= 16).and_then(|l| rest.get(..l)) else { break };
            match NetlinkMessage::<M>::deserialize(one).map(|m| m.payload) {
                Ok(NetlinkPayload::Done(_)) => return Ok(answers),
                Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
                Ok(NetlinkPayload::InnerMessage(answer)) => {
                    answers.extend(select(answer));
                    if !dump {
                        return Ok(answers);
                    }
                }
                Ok(_) | Err(_) => {}
            }
            rest = rest.get(one.len().next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
