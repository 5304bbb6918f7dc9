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
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
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
    let shrink = width.div_ceil(columns.max(1)).max(height.div_ceil(2 * lines.max(1))).max(1);
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
    /// Replaces what was shown before. Does nothing when nobody looks.
    pub(crate) fn show(&mut self, text: &str) {
        if !is_interactive() {
            return;
        }
        let (columns, _) = size();
        let mut frame = String::from("\x1b[?2026h");
        if self.lines > 0 {
            let _ = write!(frame, "\x1b[{}A\r\x1b[J", self.lines);
        }
        frame.push_str(text);
        if !text.ends_with('\n') {
            frame.push('\n');
        }
        frame.push_str("\x1b[?2026l");
        self.lines = text.lines().map(|line| visible_width(line).div_ceil(columns).max(1)).sum();
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
    let from_environment = std::env::var("COLUMNS").ok().and_then(|value| value.parse().ok());
    let columns = from_environment.unwrap_or(usize::from(columns));
    (columns.max(20), usize::from(lines).max(10))
}

/// Characters of a line without its colour codes.
fn visible_width(line: &str) -> usize {
    let mut width = 0;
    let mut is_escape = false;
    for c in line.chars() {
        match (is_escape, c) {
            (false, '\x1b') => is_escape = true,
            (true, c) if c.is_ascii_alphabetic() => is_escape = false,
            (true, _) => {}
            (false, _) => width += 1,
        }
    }
    width
}
