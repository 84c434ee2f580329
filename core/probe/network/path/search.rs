//! Test of both directions of a path, and search for the size above which packets are dropped.

use std::time::{Duration, Instant};

use crate::probe::network::path::attempt::{Answer, Attempt, Progress, overhead};
use crate::probe::network::path::{MAX_CONNECTIONS, MAX_SENT_BYTES, PathResult, PathTest, Peer, payload};

/// Data of the first, small packet, in bytes.
const SMALL_BYTES: usize = 300;

/// Data behind a full packet, in bytes: it arrives, and shows that the path works.
const TAIL_BYTES: u32 = 120;

/// Segments that pass on any IPv4 path (RFC 1122 3.3.3: 576), to test whether a response is dropped because of its size.
const SAFE_MSS: u32 = 500;

/// Time limit for the beginning of a response.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1200);

/// The same for a path that was not requested explicitly.
const SHORT_ANSWER_TIMEOUT: Duration = Duration::from_millis(400);

/// Time limit of the search for a size.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(4);

/// Packet sizes of tunnels, leased lines and overlays (Ethernet 1500; `PPPoE` 1492; 6in4 1480; GRE 1476; `WireGuard` 1420; VXLAN
/// 1450; Geneve 1442; clouds 1460, 1400; mobile networks 1430, 1350; minimum of IPv6 1280; minimum of IPv4 576), with steps
/// between them.
const SIZES: &[u32] = &[
    576, 1000, 1200, 1280, 1320, 1350, 1370, 1390, 1400, 1410, 1420, 1430, 1440, 1450, 1460, 1472, 1476, 1480, 1492, 1500, 2000,
];

/// Limit of segments in bytes of data, so that a network with jumbo frames needs no more traffic than others.
const MAX_MSS: u32 = 3900;

pub(super) fn search(peer: &Peer, guess: Option<u32>, thorough: bool) -> PathTest {
    let mut tried = PathTest::default();
    let connected = match connect(peer, None, &mut tried) {
        Ok(attempt) if attempt.info().send_mss > MAX_MSS => connect(peer, Some(MAX_MSS), &mut tried),
        other => other,
    };
    let mut first = match connected {
        Ok(attempt) => attempt,
        Err(why) => {
            tried.no_connection = Some(why);
            return tried;
        }
    };
    let before = first.info();
    tried.full = first.full_packet(&before);
    tried.path_mtu = (before.path_mtu, before.path_mtu);
    let length = SMALL_BYTES + (before.send_mss + TAIL_BYTES) as usize;
    let Some(data) = payload::build(&peer.speech, length) else {
        tried.out = PathResult::unclear("nothing is sent to this port");
        count(&first, &mut tried);
        return tried;
    };
    let (small, rest) = data.split_at(SMALL_BYTES.min(data.len()));
    let progress = match first.send_small(small) {
        Progress::Acknowledged => first.send_full(rest, 2),
        Progress::Stuck { .. } => {
            tried.out = PathResult::unclear("not even a small packet is acknowledged");
            count(&first, &mut tried);
            return tried;
        }
        Progress::Ended => Progress::Ended,
    };
    tried.path_mtu.1 = first.info().path_mtu;
    match progress {
        Progress::Acknowledged => {
            tried.out = PathResult::Arrives;
            let answer = first.answer(if thorough { ANSWER_TIMEOUT } else { SHORT_ANSWER_TIMEOUT }, u64::from(tried.full));
            count(&first, &mut tried);
            drop(first);
            tried.back = back(peer, &answer, thorough, &mut tried);
        }
        Progress::Stuck { tail } => {
            count(&first, &mut tried);
            drop(first);
            let (arrived, lost) = narrow(tried.full, guess, |size, tried| out_fits(peer, size, tried), &mut tried);
            // without a smaller packet that arrived, the size is not necessarily the cause
            tried.out = if tail || arrived.is_some() {
                PathResult::Vanishes { lost, arrived }
            } else {
                PathResult::unclear("nothing is acknowledged after the first packet")
            };
        }
        Progress::Ended => {
            tried.out = PathResult::unclear("the peer ended the connection");
            count(&first, &mut tried);
        }
    }
    tried
}

fn connect(peer: &Peer, mss: Option<u32>, tried: &mut PathTest) -> Result<Attempt, crate::probe::network::path::ConnectError> {
    tried.connections += 1;
    Attempt::connect(peer.address, mss)
}

fn count(attempt: &Attempt, tried: &mut PathTest) {
    let info = attempt.info();
    tried.sent += info.bytes_sent;
    tried.retransmitted += info.retransmitted;
}

/// Whether full packets of `size` arrive, or `None` if that is unknown.
fn out_fits(peer: &Peer, size: u32, tried: &mut PathTest) -> Option<bool> {
    let mss = size.checked_sub(overhead(peer.address.is_ipv6()))?;
    let mut attempt = connect(peer, Some(mss), tried).ok()?;
    let info = attempt.info();
    // the peer may request still smaller segments
    let fits = attempt.full_packet(&info) == size;
    let data = payload::build(&peer.speech, (info.send_mss + TAIL_BYTES) as usize)?;
    let progress = attempt.send_full(data.get(..(info.send_mss + TAIL_BYTES) as usize)?, 1);
    count(&attempt, tried);
    match progress {
        Progress::Acknowledged => fits.then_some(true),
        Progress::Stuck { .. } => Some(false),
        Progress::Ended => None,
    }
}

/// The other direction, judged by the data received on the first connection and, if that is not enough, on one with small
/// segments.
fn back(peer: &Peer, answer: &Answer, thorough: bool, tried: &mut PathTest) -> PathResult {
    // a response of this length consists of full packets
    if answer.bytes >= u64::from(tried.full) {
        return PathResult::Arrives;
    }
    if !answer.behind_gap && (answer.ended || answer.bytes > 0) {
        return PathResult::unclear(format!("the answer was only {} bytes", answer.bytes));
    }
    // a slow server is no suspicion, unless the test was requested explicitly
    if !thorough && !answer.behind_gap && matches!(peer.speech, payload::Protocol::Http { .. }) {
        return PathResult::unclear("it did not reply immediately");
    }
    let enough = u64::from(tried.full);
    let Some(small) = answer_with(peer, SAFE_MSS, ANSWER_TIMEOUT, enough, tried) else {
        return PathResult::unclear("it does not answer");
    };
    if small.bytes <= answer.bytes {
        return PathResult::unclear("it does not answer");
    }
    let timeout = small.first.unwrap_or(ANSWER_TIMEOUT) * 3 + Duration::from_millis(300);
    let overhead = overhead(peer.address.is_ipv6());
    let fits = |size: u32, tried: &mut PathTest| {
        let came = answer_with(peer, size.checked_sub(overhead)?, timeout, enough, tried)?;
        Some(came.bytes >= small.bytes)
    };
    // once more with full segments: only then the size is the cause
    let full = tried.full;
    if fits(full, tried) != Some(false) {
        return PathResult::unclear("the answer was late");
    }
    let (arrived, lost) = narrow(full, None, fits, tried);
    PathResult::Vanishes { lost, arrived: arrived.or(Some(SAFE_MSS + overhead)) }
}

/// Response if both ends send segments of at most `mss`.
fn answer_with(peer: &Peer, mss: u32, timeout: Duration, enough: u64, tried: &mut PathTest) -> Option<Answer> {
    let mut attempt = connect(peer, Some(mss), tried).ok()?;
    let data = payload::build(&peer.speech, SMALL_BYTES)?;
    let sent = attempt.send_small(&data);
    let answer = (sent == Progress::Acknowledged).then(|| attempt.answer(timeout, enough));
    count(&attempt, tried);
    answer
}

/// Largest size that arrives and smallest that does not, as far as they are found within the budget.
fn narrow(
    lost: u32,
    guess: Option<u32>,
    mut fits: impl FnMut(u32, &mut PathTest) -> Option<bool>,
    tried: &mut PathTest,
) -> (Option<u32>, u32) {
    let until = Instant::now() + SEARCH_TIMEOUT;
    let mut sizes: Vec<u32> = SIZES.iter().copied().chain(guess).filter(|s| *s < lost).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let (mut low, mut high, mut arrived, mut lost) = (0, sizes.len(), None, lost);
    // first the guess and the next larger size: if their results differ, the search is complete
    let mut next: Vec<usize> = guess.and_then(|g| sizes.binary_search(&g).ok()).map_or_else(Vec::new, |at| vec![at + 1, at]);
    while low < high {
        let at = next.pop().filter(|at| (low..high).contains(at)).unwrap_or_else(|| usize::midpoint(low, high));
        let size = sizes[at];
        // a packet that is dropped is sent twice
        if tried.sent + u64::from(size + TAIL_BYTES) * 2 > MAX_SENT_BYTES
            || tried.connections >= MAX_CONNECTIONS
            || Instant::now() > until
        {
            break;
        }
        match fits(size, tried) {
            Some(true) => (low, arrived) = (at + 1, Some(size)),
            Some(false) => {
                (high, lost) = (at, size);
                next.clear();
            }
            None => break,
        }
    }
    (arrived, lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: u32, lost: u32, guess: Option<u32>) -> ((Option<u32>, u32), u32) {
        let mut attempts = 0;
        let found = narrow(
            lost,
            guess,
            |size, tried| {
                attempts += 1;
                tried.sent += u64::from(if size <= path { size } else { size * 2 });
                Some(size <= path)
            },
            &mut PathTest::default(),
        );
        (found, attempts)
    }

    #[test]
    fn size_is_found_in_few_steps() {
        assert_eq!(found(1450, 1500, Some(1450)), ((Some(1450), 1460), 2));
        for path in [1280, 1358, 1380, 1400, 1420, 1442, 1450, 1492] {
            let ((arrived, lost), attempts) = found(path, 1500, None);
            assert!(arrived.is_none_or(|a| a <= path) && lost > path && attempts <= 5, "{path}: {arrived:?} {lost} {attempts}");
        }
        assert_eq!(found(1400, 1500, None).0, (Some(1400), 1410));
        assert_eq!(found(500, 1500, None).0.0, None);
    }

    #[test]
    fn search_ends_on_an_unclear_result() {
        assert_eq!(narrow(1500, None, |_, _| None, &mut PathTest::default()), (None, 1500));
        let mut spent = PathTest { sent: MAX_SENT_BYTES, ..PathTest::default() };
        assert_eq!(narrow(1500, None, |_, _| panic!("beyond the budget"), &mut spent), (None, 1500));
    }
}
