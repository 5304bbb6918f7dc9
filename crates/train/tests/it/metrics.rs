//! Lines of metrics and event files, read back.

use std::path::Path;

use mmada_train::metrics::{Meter, MetricsFile, Record};
use mmada_train::tensorboard::{EventWriter, Payload};

fn record(step: u64) -> Record {
    Record {
        step,
        values: vec![("loss".to_owned(), 0.1 + 0.2), ("lr".to_owned(), 1e-3)],
    }
}

#[test]
fn means_are_weighted_and_survive_being_saved() {
    let mut meter = Meter::default();
    meter.add("loss", 0.1, 1.0);
    meter.add("loss", 0.7, 2.0);
    meter.add("never", 1.0, 0.0);
    let text = serde_json::to_string(&meter).unwrap();
    let read: Meter = serde_json::from_str(&text).unwrap();
    assert_eq!(read, meter);
    let means: Vec<_> = read.means().collect();
    assert_eq!(means, [("loss", (0.1 + 0.7 * 2.0) / 3.0)]);
    meter.clear();
    assert_eq!(meter.means().count(), 0);
}

#[test]
fn a_resumed_file_ends_at_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut file = MetricsFile::open(&path, 0).unwrap();
    for step in [1, 2, 3, 4] {
        file.write(&record(step)).unwrap();
    }
    let whole = std::fs::read_to_string(&path).unwrap();
    assert!(
        whole.starts_with("{\"step\":1,\"loss\":0.30000000000000004,\"lr\":0.001}\n"),
        "{whole}"
    );
    // The process died in the middle of a line.
    std::fs::write(&path, format!("{whole}{{\"step\": 5, \"lo")).unwrap();
    let mut file = MetricsFile::open(&path, 2).unwrap();
    file.write(&record(3)).unwrap();
    let lines = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        lines,
        whole.split_inclusive('\n').take(3).collect::<String>()
    );
}

/// A line that cannot be read takes none of those after it along.
#[test]
fn a_damaged_line_ends_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut file = MetricsFile::open(&path, 0).unwrap();
    for step in [1, 2, 3, 4] {
        file.write(&record(step)).unwrap();
    }
    let whole = std::fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let kept = [lines[0], lines[1], b"\xff\xfe\n", lines[2]].concat();
    std::fs::write(&path, [&kept, lines[3], b"{\"step\": 3"].concat()).unwrap();
    MetricsFile::open(&path, 3).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), kept);
}

/// A protobuf field: number and content.
enum Field {
    Integer(u64),
    Double(f64),
    Float(f32),
    Bytes(Vec<u8>),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (first, rest) = bytes.split_at(count);
    *bytes = rest;
    first
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Integer(varint(&mut bytes)),
            1 => Field::Double(f64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let count = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, count).to_vec())
            }
            5 => Field::Float(f32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap())),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn bytes_of(fields: &[(u64, Field)], number: u64) -> &[u8] {
    let found = fields.iter().find_map(|(n, field)| match field {
        Field::Bytes(bytes) if *n == number => Some(bytes),
        _ => None,
    });
    found.expect("a field of bytes")
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The events of the only file in a folder, each checked against its checksums.
fn events(folder: &Path) -> Vec<Vec<(u64, Field)>> {
    let file = std::fs::read_dir(folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let content = std::fs::read(file).unwrap();
    let mut rest = content.as_slice();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let length = take(&mut rest, 8);
        assert_eq!(
            u32::from_le_bytes(take(&mut rest, 4).try_into().unwrap()),
            masked(length)
        );
        let event = take(
            &mut rest,
            u64::from_le_bytes(length.try_into().unwrap()) as usize,
        );
        assert_eq!(
            u32::from_le_bytes(take(&mut rest, 4).try_into().unwrap()),
            masked(event)
        );
        events.push(fields(event));
    }
    events
}

fn step(event: &[(u64, Field)]) -> u64 {
    let found = event.iter().find_map(|(number, field)| match field {
        Field::Integer(step) if *number == 2 => Some(*step),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn event_files_hold_what_was_written() {
    assert_eq!(
        crc32c::crc32c(b"123456789"),
        0xe306_9283,
        "the polynomial of Castagnoli"
    );
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path(), 7).unwrap();
    let scalars = vec![("loss".to_owned(), 0.5), ("lr".to_owned(), 1e-3)];
    writer.write(300, Payload::Scalars(scalars)).unwrap();
    let png = vec![1, 2, 3];
    let image = Payload::Image {
        tag: "paintings".to_owned(),
        height: 64,
        width: 130,
        png,
    };
    writer.write(301, image).unwrap();

    let events = events(folder.path());
    assert_eq!(
        events.iter().map(|event| step(event)).collect::<Vec<_>>(),
        [0, 8, 300, 301]
    );
    assert!(matches!(events[0][0], (1, Field::Double(time)) if time > 1e9));
    assert_eq!(bytes_of(&events[0], 3), b"brain.Event:2");
    assert!(
        matches!(fields(bytes_of(&events[1], 7))[0], (1, Field::Integer(1))),
        "session start"
    );

    let summary = fields(bytes_of(&events[2], 5));
    let values: Vec<_> = summary
        .iter()
        .map(|(number, field)| match field {
            Field::Bytes(value) if *number == 1 => fields(value),
            _ => panic!("a summary holds values"),
        })
        .collect();
    assert_eq!(bytes_of(&values[0], 1), b"loss");
    assert!(matches!(values[0][1], (2, Field::Float(value)) if value == 0.5));
    assert_eq!(bytes_of(&values[1], 1), b"lr");

    let value = fields(bytes_of(&fields(bytes_of(&events[3], 5)), 1));
    assert_eq!(bytes_of(&value, 1), b"paintings");
    let image = fields(bytes_of(&value, 4));
    assert!(matches!(image[0], (1, Field::Integer(64))));
    assert!(matches!(image[1], (2, Field::Integer(130))));
    assert_eq!(bytes_of(&image, 4), [1, 2, 3]);
}
