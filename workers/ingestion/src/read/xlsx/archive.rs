//! The archive that a workbook is: measured before anything is unpacked.

use std::io::{Cursor, Read as _};

use crate::fields::quoted;
use crate::read::{Reading, Refusal};

/// Entries of the archive.
const MAX_ENTRIES: usize = 10_000;
/// Bytes of all entries, unpacked.
const MAX_INFLATED: u64 = 512 * 1024 * 1024;
/// How many times larger than packed the entries may be, once they are past [`RATIO_FROM`].
const MAX_RATIO: u64 = 200;
const RATIO_FROM: u64 = 10 * 1024 * 1024;

/// Keeps the archive to the limits, and says what it is when it is no workbook.
pub(super) fn measure(bytes: &[u8]) -> Result<Option<Reading>, Refusal> {
    let bomb = |why: String| {
        let text = format!("{why}: it is kept aside, nothing was unpacked; look at it before sending it again in another form");
        Ok(Some(Reading::Quarantined(Refusal::new("limits-exceeded", text))))
    };
    let mut archive =
        zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| Refusal::malformed(format!("the archive is broken or cut off: {e}")))?;
    if archive.len() > MAX_ENTRIES {
        return bomb(format!("the archive has more than {MAX_ENTRIES} entries"));
    }
    let (mut packed, mut unpacked) = (0u64, 0u64);
    let (mut workbook, mut word, mut binary) = (false, false, false);
    for index in 0..archive.len() {
        let entry = archive
            .by_index_raw(index)
            .map_err(|e| Refusal::malformed(format!("the archive is broken: {e}")))?;
        if entry.encrypted() {
            return Ok(Some(Reading::NeedsPassword(super::super::password())));
        }
        packed = packed.saturating_add(entry.compressed_size());
        unpacked = unpacked.saturating_add(entry.size());
        workbook |= entry.name_raw() == b"xl/workbook.xml";
        binary |= entry.name_raw() == b"xl/workbook.bin";
        word |= entry.name_raw().starts_with(b"word/");
    }
    if unpacked > MAX_INFLATED || (unpacked > RATIO_FROM && unpacked / MAX_RATIO > packed) {
        return bomb(format!("the archive of {packed} bytes would unpack to {unpacked}"));
    }
    if !workbook {
        let (code, what) = if word || binary {
            ("not-read-yet", "files of this type are not read yet")
        } else {
            ("archive", "archives are not unpacked: send the files in it one by one")
        };
        let text = format!("the document is stored, but no facts were taken from it: {what}");
        return Ok(Some(Reading::NotRead(Refusal::new(code, text))));
    }
    // What the list of entries says can be a lie: each entry is unpacked once, to nothing, up to what it announced.
    for index in 0..archive.len() {
        let entry = archive
            .by_index(index)
            .map_err(|e| Refusal::malformed(format!("the archive is broken: {e}")))?;
        let announced = entry.size();
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let real = std::io::copy(&mut entry.take(announced + 1), &mut std::io::sink())
            .map_err(|e| Refusal::malformed(format!("{} of the archive is broken or cut off: {e}", quoted(&name))))?;
        if real > announced {
            return bomb(format!("{} of the archive unpacks to more than it announces", quoted(&name)));
        }
    }
    Ok(None)
}
