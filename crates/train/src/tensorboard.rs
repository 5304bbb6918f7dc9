//! TensorBoard event files, written by hand: every tracker reads them.
//!
//! ```text
//!   file   = record*
//!   record = length u64 | masked crc32c(length) u32 | event bytes | masked crc32c(event) u32
//!   event  = protobuf Event { 1 wall_time f64, 2 step i64, 3 file_version | 5 summary | 7 session }
//!   summary= repeated 1 Value { 1 tag, 2 simple_value f32 | 4 image }
//! ```
//!
//! Field numbers: `tensorflow/core/util/event.proto` and `tensorflow/core/framework/summary.proto`;
//! framing: `tensorflow/core/lib/io/record_writer.cc`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// What an event carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// The first event of a file.
    Version(String),
    /// Named numbers.
    Scalars(Vec<(String, f32)>),
    /// An encoded picture.
    Image {
        /// The panel's name.
        tag: String,
        /// Height in pixels.
        height: u32,
        /// Width in pixels.
        width: u32,
        /// A PNG file.
        png: Vec<u8>,
    },
    /// A session starts at the event's step: readers forget what an earlier one wrote from there on.
    SessionStart,
}

/// One event of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorBoardEvent {
    /// Seconds since 1970.
    pub wall_time: f64,
    /// Optimiser steps done.
    pub step: u64,
    /// What it carries.
    pub payload: Payload,
}

/// Writes one event file.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Creates `folder/events.out.tfevents.SECONDS.mmada` and says that the run stands at `step`.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::file(folder, "create the folder"))?;
        let seconds = now();
        // Two sessions within one second must not share a file.
        let mut path = folder.join(format!("events.out.tfevents.{:010}.mmada", seconds as u64));
        let mut attempt = 0;
        while path.exists() {
            attempt += 1;
            path = folder.join(format!(
                "events.out.tfevents.{:010}.mmada.{attempt}",
                seconds as u64
            ));
        }
        let file = File::create(&path).map_err(Error::file(&path, "create the event file"))?;
        let mut writer = Self { file, path };
        writer.write(0, Payload::Version("brain.Event:2".to_owned()))?;
        // Readers forget what is at the step of a session's start or after it.
        let begun = if step > 0 { step + 1 } else { 0 };
        writer.write(begun, Payload::SessionStart)?;
        Ok(writer)
    }

    /// Appends an event, stamped with the time of day.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, step: u64, payload: Payload) -> Result<()> {
        let event = TensorBoardEvent {
            wall_time: now(),
            step,
            payload,
        };
        let record = frame(&encode(&event));
        self.file
            .write_all(&record)
            .map_err(Error::file(&self.path, "write an event"))
    }
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// The checksum of TFRecord files: crc32c rotated and shifted, so that checksums of checksums differ.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn frame(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(event.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(event);
    record.extend_from_slice(&masked_crc(event).to_le_bytes());
    record
}

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
}

fn encode(event: &TensorBoardEvent) -> Vec<u8> {
    let message = Message::default()
        .double(1, event.wall_time)
        .integer(2, event.step);
    let message = match &event.payload {
        Payload::Version(version) => message.bytes(3, version.as_bytes()),
        Payload::Scalars(values) => {
            let summary = values
                .iter()
                .fold(Message::default(), |summary, (tag, value)| {
                    let value = Message::default().bytes(1, tag.as_bytes()).float(2, *value);
                    summary.bytes(1, &value.0)
                });
            message.bytes(5, &summary.0)
        }
        Payload::Image {
            tag,
            height,
            width,
            png,
        } => {
            let rgb = 3;
            let image = Message::default()
                .integer(1, u64::from(*height))
                .integer(2, u64::from(*width))
                .integer(3, rgb)
                .bytes(4, png);
            let value = Message::default()
                .bytes(1, tag.as_bytes())
                .bytes(4, &image.0);
            message.bytes(5, &Message::default().bytes(1, &value.0).0)
        }
        Payload::SessionStart => message.bytes(7, &Message::default().integer(1, 1).0),
    };
    message.0
}
