//! The fonts of a page: which text their codes stand for, and how wide that is.

use std::collections::{BTreeMap, HashMap};

use lopdf::{Dictionary, Document, Encoding, Error, Object, ObjectId};

/// Bytes that a font's table of characters may unpack to.
const MAX_TABLE: usize = 8 * 1024 * 1024;
/// Width of a glyph that nothing is known of, in thousandths of the font's size: about a lower-case letter's.
const USUAL: f32 = 500.0;

pub(super) struct Font<'d> {
    encoding: Encoding<'d>,
    widths: Widths,
}

/// Widths of glyphs in thousandths of the font's size.
enum Widths {
    /// A byte a code.
    Simple { first: i64, widths: Vec<f32> },
    /// Two bytes a code.
    Composite { widths: HashMap<u16, f32>, usual: f32 },
}

/// The fonts of a page, by the name that its contents use.
pub(super) fn of_page(document: &Document, page: ObjectId) -> Result<BTreeMap<Vec<u8>, Font<'_>>, Error> {
    let mut fonts = BTreeMap::new();
    for (name, font) in document.get_page_fonts(page)? {
        match font.get_font_encoding_with_limit(document, MAX_TABLE) {
            Ok(encoding) => {
                let widths = Widths::of(document, font);
                fonts.insert(name, Font { encoding, widths });
            }
            Err(e) if super::is_bomb(&e) => return Err(e),
            // Without its table a font's text is noise.
            Err(_) => {}
        }
    }
    Ok(fonts)
}

impl Font<'_> {
    /// The text of a string in a page's contents; nothing when its codes stand for nothing.
    pub fn text(&self, bytes: &[u8]) -> String {
        Document::decode_text(&self.encoding, bytes).unwrap_or_default()
    }

    /// Its width in parts of the font's size, and how many codes it has.
    pub fn advance(&self, bytes: &[u8]) -> (f32, usize) {
        match &self.widths {
            Widths::Simple { first, widths } => {
                let of = |b: &u8| usize::try_from(i64::from(*b) - first).ok().and_then(|i| widths.get(i)).copied();
                (bytes.iter().map(|b| of(b).unwrap_or(USUAL)).sum::<f32>() / 1000.0, bytes.len())
            }
            Widths::Composite { widths, usual } => {
                let code = |pair: &[u8]| pair.iter().fold(0u16, |code, b| (code << 8) | u16::from(*b));
                let of = |pair| widths.get(&code(pair)).copied().unwrap_or(*usual);
                (bytes.chunks(2).map(of).sum::<f32>() / 1000.0, bytes.len() / 2)
            }
        }
    }
}

impl Widths {
    fn of(document: &Document, font: &Dictionary) -> Self {
        let array = |dict: &Dictionary, key: &[u8]| -> Vec<Object> {
            let found = dict.get_deref(key, document).and_then(Object::as_array);
            found.cloned().unwrap_or_default()
        };
        let descendants = array(font, b"DescendantFonts");
        let descendant = descendants
            .first()
            .and_then(|o| document.dereference(o).ok())
            .and_then(|(_, o)| o.as_dict().ok());
        match descendant {
            None => Self::Simple {
                first: font.get_deref(b"FirstChar", document).and_then(Object::as_i64).unwrap_or(0),
                widths: array(font, b"Widths")
                    .iter()
                    .take(256)
                    .map(|o| number(document, o).unwrap_or(USUAL))
                    .collect(),
            },
            Some(descendant) => Self::Composite {
                widths: composite(document, &array(descendant, b"W")),
                usual: descendant.get_deref(b"DW", document).and_then(Object::as_float).unwrap_or(1000.0),
            },
        }
    }
}

fn number(document: &Document, object: &Object) -> Option<f32> {
    document.dereference(object).ok().and_then(|(_, o)| o.as_float().ok())
}

/// The array of widths of a composite font (ISO 32000-1, 9.7.4.3): `first [w …]` or `first last w`.
fn composite(document: &Document, array: &[Object]) -> HashMap<u16, f32> {
    let mut widths = HashMap::new();
    let mut rest = array;
    let code = |o: &Object| number(document, o).filter(|n| (0.0..65_536.0).contains(n)).map(|n| n as u16);
    while let [first, second, tail @ ..] = rest {
        let Some(from) = code(first) else { break };
        if let Ok(list) = document.dereference(second).and_then(|(_, o)| o.as_array()) {
            for (code, width) in (from..=u16::MAX).zip(list) {
                widths.insert(code, number(document, width).unwrap_or(USUAL));
            }
            rest = tail;
        } else if let (Some(to), [width, tail @ ..]) = (code(second), tail) {
            let width = number(document, width).unwrap_or(USUAL);
            widths.extend((from..=to).map(|code| (code, width)));
            rest = tail;
        } else {
            break;
        }
    }
    widths
}
