//! What a person sees: progress bars, pictures made of half blocks, and a view redrawn in place.
//!
//! All of it goes to standard error and is silent when that is not a terminal, so results on
//! standard output stay clean for scripts.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mmada_data::picture::Picture;

/// Whether progress and live views make sense.
pub(crate) fn is_interactive() -> bool {
    stderr().is_terminal()
}

/// A bar with rate and time to go; it appears only on a terminal.
pub(crate) fn bar(total: u64, unit: &str) -> ProgressBar {
    if !is_interactive() {
        return ProgressBar::hidden();
    }
    let template = format!(
        "{{msg:18}} {{bar:32}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{elapsed_precise}} < {{eta_precise}}"
    );
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// As [`bar`] where nobody knows how many there are: without the time to go.
pub(crate) fn counter(unit: &str) -> ProgressBar {
    if !is_interactive() {
        return ProgressBar::hidden();
    }
    let template =
        format!("{{msg:18}} {{spinner}} {{pos}} {unit}  {{per_sec}}  {{elapsed_precise}}");
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let counter = ProgressBar::new_spinner().with_style(style);
    counter.enable_steady_tick(Duration::from_millis(200));
    counter
}

/// Something that takes a while and cannot say how long.
pub(crate) fn spinner(message: String) -> ProgressBar {
    if !is_interactive() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(message);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// A duration as `m:ss` or `h:mm:ss`.
pub(crate) fn clock(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "-".to_owned();
    }
    // A float cast saturates.
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A picture as coloured half blocks, two pixels to a character, shrunk to fit into so many
/// columns and lines.
pub(crate) fn half_blocks(picture: &Picture, columns: usize, lines: usize) -> String {
    let (width, height) = (picture.width(), picture.height());
    let shrink = width
        .div_ceil(columns.max(1))
        .max(height.div_ceil(2 * lines.max(1)))
        .max(1);
    let cells = (width / shrink).max(1);
    let mut text = String::new();
    for line in 0..height.div_ceil(2 * shrink) {
        for cell in 0..cells {
            let [r, g, b] = mean(picture, cell * shrink, 2 * line * shrink, shrink);
            let [x, y, z] = mean(picture, cell * shrink, (2 * line + 1) * shrink, shrink);
            // Writing to a String cannot fail.
            let _ = write!(text, "\x1b[38;2;{r};{g};{b}m\x1b[48;2;{x};{y};{z}m▀");
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

/// Mean colour of a square, as far as it lies in the picture; black beyond.
fn mean(picture: &Picture, left: usize, top: usize, side: usize) -> [u8; 3] {
    let (mut sums, mut count) = ([0usize; 3], 0);
    for y in top..top + side {
        for pixel in (left..left + side).filter_map(|x| picture.pixel(x, y)) {
            count += 1;
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += usize::from(value);
            }
        }
    }
    sums.map(|sum| (sum / count.max(1)) as u8)
}

/// A region of the terminal that is redrawn in place.
#[derive(Debug, Default)]
pub(crate) struct Live {
    lines: usize,
}

impl Live {
    /// Replaces what was shown before. Does nothing when nobody looks. Of a text that is longer
    /// than the terminal, the first row and the latest ones are shown.
    pub(crate) fn show(&mut self, text: &str) {
        if !is_interactive() {
            return;
        }
        let (columns, lines) = size();
        let mut rows: Vec<String> = text
            .lines()
            .flat_map(|line| wrapped(line, columns))
            .collect();
        let excess = (rows.len() + 1).saturating_sub(lines);
        let excess = excess.min(rows.len().saturating_sub(1));
        rows.drain(rows.len().min(1)..rows.len().min(1) + excess);
        let mut frame = String::from("\x1b[?2026h");
        if self.lines > 0 {
            let _ = write!(frame, "\x1b[{}A\r\x1b[J", self.lines);
        }
        for row in &rows {
            frame.push_str(row);
            frame.push('\n');
        }
        frame.push_str("\x1b[0m\x1b[?2026l");
        self.lines = rows.len();
        put(&frame);
    }

    /// Takes away what was shown.
    pub(crate) fn clear(&mut self) {
        if self.lines > 0 {
            put(&format!("\x1b[{}A\r\x1b[J", self.lines));
            self.lines = 0;
        }
    }
}

fn put(frame: &str) {
    // A terminal that went away is no reason to stop the work.
    let _ = stderr().write_all(frame.as_bytes());
    let _ = stderr().flush();
}

/// Columns and lines of the terminal.
pub(crate) fn size() -> (usize, usize) {
    let (lines, columns) = console::Term::stderr().size();
    let from_environment = std::env::var("COLUMNS")
        .ok()
        .and_then(|value| value.parse().ok());
    let columns = from_environment.unwrap_or(usize::from(columns));
    (columns.max(20), usize::from(lines).max(10))
}

/// A line cut into rows of at most `columns` columns; colour codes take no room, wide characters two.
fn wrapped(line: &str, columns: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    let (mut width, mut is_escape) = (0, false);
    for c in line.chars() {
        if c == '\x1b' {
            is_escape = true;
        } else if is_escape {
            is_escape = !c.is_ascii_alphabetic();
        } else {
            let own = console::measure_text_width(c.encode_utf8(&mut [0; 4]));
            if width + own > columns {
                rows.push(String::new());
                width = 0;
            }
            width += own;
        }
        if let Some(row) = rows.last_mut() {
            row.push(c);
        }
    }
    rows
}
