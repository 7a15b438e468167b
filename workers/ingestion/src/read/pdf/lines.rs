//! The lines of a page as a person sees them: text by its place, not by its order in the file.
//!
//! Operators as in ISO 32000-1, 9.4. Text that a page draws by way of form XObjects is not looked at.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use lopdf::content::{Content, Operation};
use lopdf::{Document, Error, Object, ObjectId};

use super::fonts::{self, Font};

/// Between two pieces of text on a line, in parts of the font's size: from here on there is a space …
const SPACE: f32 = 0.18;
/// … and from here on another column.
const COLUMN: f32 = 1.8;
/// Pieces of text of one page.
const MAX_PIECES: usize = 500_000;

/// What separates columns in a line.
pub(super) const TAB: char = '\t';

/// A piece of text: where it begins and ends, its base line and its size in points.
struct Piece {
    x: f32,
    end: f32,
    y: f32,
    size: f32,
    text: String,
}

/// A transformation `[a b c d e f]` (ISO 32000-1, 8.3.3).
#[derive(Debug, Clone, Copy)]
struct Matrix([f32; 6]);

impl Matrix {
    const ONE: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    fn moved(x: f32, y: f32) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y])
    }

    /// First this one, then the other.
    fn then(self, other: Self) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (self.0, other.0);
        Self([
            a * g + b * i,
            a * h + b * j,
            c * g + d * i,
            c * h + d * j,
            e * g + f * i + k,
            e * h + f * j + l,
        ])
    }

    fn of(operands: &[Object]) -> Option<Self> {
        let mut numbers = [0.0; 6];
        for (number, operand) in numbers.iter_mut().zip(operands) {
            *number = operand.as_float().ok()?;
        }
        (operands.len() == 6).then_some(Self(numbers))
    }
}

/// The text state (ISO 32000-1, 9.3) and the matrices.
#[derive(Clone)]
struct State {
    page: Matrix,
    font: Option<Vec<u8>>,
    size: f32,
    leading: f32,
    letter: f32,
    scale: f32,
}

struct Walk<'d> {
    fonts: BTreeMap<Vec<u8>, Font<'d>>,
    state: State,
    saved: Vec<State>,
    text: Matrix,
    line: Matrix,
    pieces: Vec<Piece>,
}

/// The lines of a page from top to bottom, columns separated by [`TAB`].
pub(super) fn of_page(document: &Document, page: ObjectId, content: &[u8]) -> Result<Vec<String>, Error> {
    let content = Content::decode(content)?;
    let mut walk = Walk {
        fonts: fonts::of_page(document, page)?,
        state: State {
            page: Matrix::ONE,
            font: None,
            size: 0.0,
            leading: 0.0,
            letter: 0.0,
            scale: 1.0,
        },
        saved: Vec::new(),
        text: Matrix::ONE,
        line: Matrix::ONE,
        pieces: Vec::new(),
    };
    for operation in &content.operations {
        if walk.pieces.len() >= MAX_PIECES {
            break;
        }
        walk.step(operation);
    }
    Ok(joined(walk.pieces))
}

impl Walk<'_> {
    fn step(&mut self, operation: &Operation) {
        let operands = &operation.operands;
        let number = |at: usize| operands.get(at).and_then(|o| o.as_float().ok());
        match operation.operator.as_str() {
            // Depth of saved states that any reader supports.
            "q" if self.saved.len() < 64 => self.saved.push(self.state.clone()),
            "Q" => self.state = self.saved.pop().unwrap_or_else(|| self.state.clone()),
            "cm" => {
                if let Some(matrix) = Matrix::of(operands) {
                    self.state.page = matrix.then(self.state.page);
                }
            }
            "BT" => (self.text, self.line) = (Matrix::ONE, Matrix::ONE),
            "Tf" => {
                self.state.font = operands.first().and_then(|o| o.as_name().ok()).map(<[u8]>::to_vec);
                self.state.size = number(1).unwrap_or(0.0);
            }
            "Tc" => self.state.letter = number(0).unwrap_or(0.0),
            "Tz" => self.state.scale = number(0).unwrap_or(100.0) / 100.0,
            "TL" => self.state.leading = number(0).unwrap_or(0.0),
            "Td" => self.move_line(number(0), number(1)),
            "TD" => {
                self.state.leading = -number(1).unwrap_or(0.0);
                self.move_line(number(0), number(1));
            }
            "Tm" => {
                if let Some(matrix) = Matrix::of(operands) {
                    (self.text, self.line) = (matrix, matrix);
                }
            }
            "T*" => self.next_line(),
            "Tj" => self.show(operands.first()),
            "'" => {
                self.next_line();
                self.show(operands.first());
            }
            "\"" => {
                self.next_line();
                self.show(operands.get(2));
            }
            "TJ" => {
                for part in operands.first().and_then(|o| o.as_array().ok()).into_iter().flatten() {
                    match part.as_float() {
                        Ok(back) => self.advance(-back / 1000.0 * self.state.size * self.state.scale),
                        Err(_) => self.show(Some(part)),
                    }
                }
            }
            _ => {}
        }
    }

    fn move_line(&mut self, x: Option<f32>, y: Option<f32>) {
        self.line = Matrix::moved(x.unwrap_or(0.0), y.unwrap_or(0.0)).then(self.line);
        self.text = self.line;
    }

    fn next_line(&mut self) {
        self.move_line(Some(0.0), Some(-self.state.leading));
    }

    fn advance(&mut self, x: f32) {
        self.text = Matrix::moved(x, 0.0).then(self.text);
    }

    fn show(&mut self, string: Option<&Object>) {
        let Some(bytes) = string.and_then(|o| o.as_str().ok()) else {
            return;
        };
        let Some(font) = self.state.font.as_ref().and_then(|name| self.fonts.get(name)) else {
            return;
        };
        let text = font.text(bytes);
        let (width, codes) = font.advance(bytes);
        let Matrix([_, _, c, d, x, y]) = self.text.then(self.state.page);
        let size = self.state.size.abs() * c.hypot(d);
        self.advance((width * self.state.size + self.state.letter * codes as f32) * self.state.scale);
        let Matrix([.., end, _]) = self.text.then(self.state.page);
        if !text.is_empty() && [x, y, end, size].iter().all(|n| n.is_finite()) {
            self.pieces.push(Piece { x, end, y, size, text });
        }
    }
}

/// Joins pieces that stand on the same base line.
fn joined(mut pieces: Vec<Piece>) -> Vec<String> {
    let number = |a: f32, b: f32| a.partial_cmp(&b).unwrap_or(Ordering::Equal);
    pieces.sort_by(|a, b| number(b.y, a.y));
    let mut lines = Vec::new();
    let mut rest = pieces.into_iter().peekable();
    while let Some(first) = rest.next() {
        let near = first.size.max(1.0) * 0.35;
        let mut line = vec![first];
        while let Some(next) = rest.next_if(|p| line.last().is_some_and(|l| (l.y - p.y).abs() <= near)) {
            line.push(next);
        }
        // A stable sort: text drawn at one place keeps the order of the file.
        line.sort_by(|a, b| number(a.x, b.x));
        let text = across(&line);
        if !text.is_empty() {
            lines.push(text);
        }
    }
    lines
}

fn across(line: &[Piece]) -> String {
    let mut out = String::new();
    let mut end = f32::NEG_INFINITY;
    for piece in line {
        let gap = (piece.x - end) / piece.size.max(1.0);
        if !out.is_empty() && gap > COLUMN {
            out.truncate(out.trim_end().len());
            out.push(TAB);
        } else if !out.is_empty() && gap > SPACE && !out.ends_with(' ') && !piece.text.starts_with(' ') {
            out.push(' ');
        }
        out.extend(
            piece
                .text
                .chars()
                .map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c }),
        );
        end = end.max(piece.end);
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(x: f32, end: f32, y: f32, text: &str) -> Piece {
        Piece {
            x,
            end,
            y,
            size: 10.0,
            text: text.to_owned(),
        }
    }

    #[test]
    fn text_is_joined_by_its_place_and_not_by_its_order_in_the_file() {
        let pieces = vec![
            piece(50.0, 90.0, 680.0, "Segunda"),
            piece(72.0, 80.0, 700.5, "erficie"),
            piece(50.0, 72.0, 700.0, "Sup"),
            piece(83.0, 120.0, 700.0, "construida:"),
            piece(300.0, 330.0, 700.0, "96,50 m²"),
        ];
        assert_eq!(joined(pieces), ["Superficie construida:\t96,50 m²", "Segunda"]);
    }

    #[test]
    fn matrices_join_as_the_standard_has_them() {
        let scaled = Matrix([2.0, 0.0, 0.0, 2.0, 10.0, 20.0]);
        assert_eq!(Matrix::moved(3.0, 4.0).then(scaled).0, [2.0, 0.0, 0.0, 2.0, 16.0, 28.0]);
    }
}
