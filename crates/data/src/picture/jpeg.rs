//! Whether a JPEG file is all there: decoders fill with grey what is missing, and say nothing.

/// Walks from segment to segment to the end-of-image marker.
///
/// ```text
///   SOI │ FF xx length … │ … │ FF DA length … coded data, FF 00 for FF … │ … │ FF D9
/// ```
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        match bytes.get(at..).unwrap_or_default() {
            [] | [_] => return false,
            [0xff, 0xd9, ..] => return true,
            [0xff, 0xd0..=0xd7 | 0x01, ..] => at += 2,
            [0xff, 0xff, ..] => at += 1,
            [0xff, marker, rest @ ..] => {
                let [high, low, ..] = rest else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
                if *marker == 0xda {
                    at += coded(bytes.get(at..).unwrap_or_default());
                }
            }
            // Stray bytes between segments, which decoders pass over.
            [_, _, ..] => at += 1,
        }
    }
}

/// Length of the coded data that bytes begin with: up to a marker that is no restart.
fn coded(bytes: &[u8]) -> usize {
    let is_marker = |two: &[u8]| two[0] == 0xff && !matches!(two[1], 0x00 | 0xd0..=0xd7);
    let marker = bytes.windows(2).position(is_marker);
    marker.unwrap_or(bytes.len())
}
