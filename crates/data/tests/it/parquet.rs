//! The Parquet reader on files written with the crate's own writer, whole and damaged.

use std::path::Path;
use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{
    SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter,
};
use ::parquet::schema::parser::parse_message_type;
use mmada_data::ImageStore;
use mmada_data::readers::Format;
use mmada_data::record::Read;
use mmada_tensor::process;
use serde_json::{Value, json};

use crate::files::write;
use crate::readers::{SMALL, fields, read, records};

/// Writes one column: values, definition and repetition levels.
fn bytes_column(
    group: &mut SerializedRowGroupWriter<'_, std::fs::File>,
    values: &[&str],
    levels: Option<(&[i16], &[i16])>,
) {
    let values: Vec<ByteArray> = values.iter().map(|&value| value.into()).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&values, levels.map(|l| l.0), levels.map(|l| l.1))
        .unwrap();
    column.close().unwrap();
}

const SCHEMA: &str = "
message rows {
  required binary prompt (UTF8);
  required int64 number;
  required double score;
  optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }
  optional group messages (LIST) { repeated group list { required group element {
    required binary role (UTF8); required binary content (UTF8); } } }
  optional group image { optional binary bytes; optional binary path (UTF8); }
}";

fn write_parquet(path: &Path, compression: ::parquet::basic::Compression) {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = Arc::new(
        WriterProperties::builder()
            .set_compression(compression)
            .build(),
    );
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    bytes_column(&mut group, &["p0", "p1"], None);
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&[5, -6], None, None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<DoubleType>()
        .write_batch(&[0.5, 1.25], None, None)
        .unwrap();
    column.close().unwrap();
    // Row 0: ["x", "y"]; row 1: null.
    bytes_column(&mut group, &["x", "y"], Some((&[3, 3, 0], &[0, 1, 0])));
    // Two turns in row 0, one in row 1.
    let levels: (&[i16], &[i16]) = (&[2, 2, 2], &[0, 1, 0]);
    bytes_column(&mut group, &["user", "assistant", "user"], Some(levels));
    bytes_column(&mut group, &["hi", "hello", "alone"], Some(levels));
    bytes_column(&mut group, &["PNG"], Some((&[2, 1], &[0, 0])));
    bytes_column(&mut group, &["a.png", "b.png"], Some((&[2, 2], &[0, 0])));
    group.close().unwrap();
    writer.close().unwrap();
}

fn parquet_format(images: Option<Arc<ImageStore>>) -> Format {
    Format::Parquet {
        images,
        image_field: "image".into(),
    }
}

#[test]
fn parquet_rows() {
    use ::parquet::basic::{Compression, ZstdLevel};
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pics/b.png", "B");
    let store = ImageStore::open(&dir.path().join("pics"), SMALL).unwrap();
    let format = parquet_format(Some(Arc::new(store)));
    let kinds = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for (index, compression) in kinds.into_iter().enumerate() {
        let path = dir.path().join(format!("{index}.parquet"));
        write_parquet(&path, compression);
        assert_eq!(format.count(&path), Some(2));
        let rows = records(&format, &path);
        assert_eq!(
            fields(&rows[0]),
            json!({"prompt": "p0", "number": 5, "score": 0.5, "tags": ["x", "y"],
                "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
                "image": "a.png"})
        );
        assert_eq!(
            rows[0].image.as_ref().unwrap().load().unwrap().bytes(),
            b"PNG"
        );
        assert_eq!(rows[1].fields["tags"], Value::Null);
        assert_eq!(
            rows[1].image.as_ref().unwrap().load().unwrap().bytes(),
            b"B"
        );
        assert_eq!(rows[1].key, format!("{index}.parquet:1"));
    }
}

#[test]
fn damaged_parquet_is_an_error_or_other_data_but_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole.parquet");
    write_parquet(&path, ::parquet::basic::Compression::UNCOMPRESSED);
    let whole = std::fs::read(&path).unwrap();
    let format = parquet_format(None);
    for cut in [0, 3, 8, whole.len() / 2, whole.len() - 1] {
        let path = write(dir.path(), "cut.parquet", &whole[..cut]);
        let error = read(&format, &path).unwrap_err();
        assert!(error.to_string().contains("cut.parquet"), "{error}");
    }
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x2a;
        let path = write(dir.path(), "flip.parquet", bytes);
        if let Err(error) = read(&format, &path) {
            assert!(error.to_string().contains("flip.parquet"), "{error}");
        }
    }
}

/// A text that the file holds once for all its rows is a large record for each of them.
#[test]
fn rows_of_hostile_size_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.parquet");
    let schema = "message rows { required binary prompt (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(&path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let long = "x".repeat(SMALL.entry as usize + 1);
    bytes_column(&mut group, &["short", &long, &long], None);
    group.close().unwrap();
    writer.close().unwrap();
    let reads = read(&parquet_format(None), &path).unwrap();
    assert_eq!(reads.len(), 3);
    assert!(matches!(&reads[0], Read::Record(record) if record.fields["prompt"] == "short"));
    for read in &reads[1..] {
        assert!(
            matches!(read, Read::Broken { reason, .. } if reason.contains("bytes allowed")),
            "{read:?}"
        );
    }
}

/// A footer that tells of rows without columns would be read for ever.
#[test]
fn a_file_of_no_columns_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bare.parquet");
    let schema = Arc::new(parse_message_type("message rows { }").unwrap());
    let file = std::fs::File::create(&path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    writer.close().unwrap();
    let error = read(&parquet_format(None), &path).unwrap_err().to_string();
    assert!(
        error.contains("bare.parquet") && error.contains("0 columns"),
        "{error}"
    );
}

/// A file of one column.
fn write_column(path: &Path, schema: &str, write: impl FnOnce(&mut SerializedColumnWriter<'_>)) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    write(&mut column);
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

/// Repetition levels of the list of one row.
fn one_list(length: usize) -> Vec<i16> {
    let mut levels = vec![1; length];
    levels[0] = 0;
    levels
}

const TAGS: &str = "message rows {
  required group tags (LIST) { repeated group list { required binary element (UTF8); } } }";

/// A long text that the file holds once, and one row names often: two gigabytes, were it written out.
#[test]
fn lists_of_hostile_size_are_left_out() {
    const COUNT: usize = 1 << 15;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.parquet");
    write_column(&path, TAGS, |column| {
        let values = vec![ByteArray::from("x".repeat(1 << 16).as_str()); COUNT];
        let (definition, repetition) = (vec![1i16; COUNT], one_list(COUNT));
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&definition), Some(&repetition))
            .unwrap();
    });
    let before = process::peak_memory();
    let reads = read(&parquet_format(None), &path).unwrap();
    assert!(
        matches!(&reads[..], [Read::Broken { reason, .. }] if reason.contains("bytes allowed")),
        "{reads:?}"
    );
    if let (Some(before), Some(after)) = (before, process::peak_memory()) {
        assert!(after - before < 1 << 30, "{before} to {after} bytes");
    }
}

/// A list of nothing but nulls takes a few bytes of the file, whatever its length.
#[test]
fn lists_of_too_many_values_are_refused() {
    const COUNT: usize = (1 << 25) + 1;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nulls.parquet");
    let schema = "message rows {
      required group n (LIST) { repeated group list { optional int64 element; } } }";
    write_column(&path, schema, |column| {
        let (definition, repetition) = (vec![1i16; COUNT], one_list(COUNT));
        column
            .typed::<Int64Type>()
            .write_batch(&[], Some(&definition), Some(&repetition))
            .unwrap();
    });
    let error = read(&parquet_format(None), &path).unwrap_err().to_string();
    assert!(
        error.contains("nulls.parquet") && error.contains("smaller pages"),
        "{error}"
    );
}

/// Text in lists is read as bytes, and is still the name of a picture.
#[test]
fn a_picture_may_be_named_in_a_list() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pics/b.png", "B");
    let store = ImageStore::open(&dir.path().join("pics"), SMALL).unwrap();
    let path = dir.path().join("named.parquet");
    write_column(&path, &TAGS.replace("tags", "image"), |column| {
        column
            .typed::<ByteArrayType>()
            .write_batch(&[ByteArray::from("b.png")], Some(&[1]), Some(&[0]))
            .unwrap();
    });
    let rows = records(&parquet_format(Some(Arc::new(store))), &path);
    let image = rows[0].image.as_ref().unwrap();
    assert_eq!(image.load().unwrap().bytes(), b"B");
    assert_eq!(fields(&rows[0]), json!({"image": "b.png"}));
}
