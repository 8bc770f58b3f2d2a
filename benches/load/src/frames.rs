//! RFC 6455 frames, as far as a client of a gateway needs them: servers do not mask, clients do.

/// One whole frame of the server.
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
}

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

/// The frame at the start of `bytes` and its length, or `None` while it is not complete.
///
/// # Errors
/// What is wrong with it: fragments, masks and reserved bits, which the gateway does not send.
pub fn next(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0xF0 != 0x80 || second & 0x80 != 0 {
        return Err(format!("unexpected frame head {first:#x} {second:#x}"));
    }
    let (head, size) = match second {
        126 => match rest {
            [a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            _ => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(size) => (10, usize::try_from(u64::from_be_bytes(*size)).map_err(|e| e.to_string())?),
            None => return Ok(None),
        },
        size => (2, usize::from(*size)),
    };
    let Some(payload) = bytes.get(head..head + size) else { return Ok(None) };
    Ok(Some((Frame { opcode: first & 0x0F, payload }, head + size)))
}

/// A short client frame; the mask is zero, which is as good as any on the loopback.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let size = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut out = vec![0x80 | opcode];
    if size < 126 {
        out.push(0x80 | size as u8);
    } else {
        out.push(0x80 | 126);
        out.extend(size.to_be_bytes());
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}
