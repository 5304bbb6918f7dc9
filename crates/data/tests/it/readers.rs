//! Each reader on tiny files, whole and broken.

use std::path::Path;
use std::sync::Arc;

use mmada_data::files::Bounds;
use mmada_data::readers::{Format, Shard, Turns};
use mmada_data::record::Read;
use mmada_data::{DataError, ImageStore, Record};
use serde_json::{Value, json};

use crate::files::{gzip, samples, tar, write};

pub(crate) const SMALL: Bounds = Bounds {
    entry: 4096,
    archive: 1 << 20,
};

pub(crate) fn read(format: &Format, path: &Path) -> Result<Vec<Read>, DataError> {
    let shard = Shard {
        path,
        index: 0,
        source: Arc::from("test"),
        bounds: SMALL,
    };
    format.read(&shard)?.collect()
}

pub(crate) fn records(format: &Format, path: &Path) -> Vec<Record> {
    let only = |read| match read {
        Read::Record(record) => record,
        Read::Broken { name, reason } => panic!("{name}: {reason}"),
    };
    read(format, path).unwrap().into_iter().map(only).collect()
}

fn faults(reads: Vec<Read>) -> Vec<(String, String)> {
    reads
        .into_iter()
        .filter_map(|read| match read {
            Read::Broken { name, reason } => Some((name, reason)),
            Read::Record(_) => None,
        })
        .collect()
}

pub(crate) fn fields(record: &Record) -> Value {
    Value::Object(record.fields.clone())
}

fn jsonl(images: Option<Arc<ImageStore>>) -> Format {
    Format::Jsonl {
        images,
        image_field: "image".into(),
    }
}

#[test]
fn webdataset_groups_members() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = tar(&[
        ("./d/one.webp", b"W"),
        ("./d/one.json", br#"{"style": "noto"}"#),
        ("./d/one.txt", "piñata\n".as_bytes()),
        ("two.JPEG", b"J"),
        ("two.seg.npy", b"ignored"),
        ("two.cls", b"7"),
        ("readme", b"not a sample"),
        ("three.json", br#"{"caption": "a"}"#),
        ("three.txt", b"b"),
    ]);
    let zst = zstd::encode_all(&bytes[..], 1).unwrap();
    for (name, bytes) in [
        ("a.tar", bytes.clone()),
        ("a.tgz", gzip(&bytes)),
        ("a.tar.zst", zst),
    ] {
        let path = write(dir.path(), name, bytes);
        let found = records(&Format::WebDataset, &path);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].key, format!("{name}/d/one"));
        let wanted = json!({"style": "noto", "text": "piñata", "caption": "piñata"});
        assert_eq!(fields(&found[0]), wanted);
        assert_eq!(
            found[0].image.as_ref().unwrap().load().unwrap().bytes(),
            b"W"
        );
        assert_eq!(fields(&found[1]), json!({"cls": 7}));
        assert_eq!(
            found[1].image.as_ref().unwrap().load().unwrap().bytes(),
            b"J"
        );
        assert_eq!(fields(&found[2]), json!({"caption": "a", "text": "b"}));
        assert!(found[2].image.is_none());
    }
}

#[test]
fn webdataset_skips_broken_samples_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let large = vec![b'x'; 5000];
    let deep = "[".repeat(3000);
    let bytes = tar(&[
        ("a.png", b"A"),
        ("a.json", b"{not json"),
        ("b.png", &large),
        ("b.json", b"{}"),
        ("c.txt", &[0xff, 0xfe]),
        ("d.json", b"[1]"),
        ("e.png", b"1"),
        ("e.jpg", b"2"),
        ("f.json", deep.as_bytes()),
        ("../../escape.txt", b"read into memory, written nowhere"),
    ]);
    let path = write(dir.path(), "s.tar.gz", gzip(&bytes));
    let reads = read(&Format::WebDataset, &path).unwrap();
    let faults = faults(reads.clone());
    let names: Vec<&str> = faults.iter().map(|(name, _)| &**name).collect();
    let wanted = ["a", "b", "c", "d", "e", "f"].map(|key| format!("s.tar.gz/{key}"));
    assert_eq!(names, wanted);
    assert!(faults[1].1.contains("5000"), "{faults:?}");
    assert_eq!(reads.len(), 7);
}

#[test]
fn broken_shards_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = samples("x", 40);
    let packed = gzip(&whole);
    let mut flipped = packed.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 0xff;
    let mut header = whole.clone();
    header[2048] ^= 0x55;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("truncated.tar.gz", packed[..packed.len() / 2].to_vec()),
        ("no-trailer.tar.gz", packed[..packed.len() - 8].to_vec()),
        ("checksum.tar.gz", flipped),
        ("truncated.tar", whole[..1024 * 3 + 700].to_vec()),
        ("header.tar", header),
        ("text.tar", b"hello, I am a text file\n".repeat(60)),
        ("empty.tar", Vec::new()),
        ("short.tar", b"x".to_vec()),
    ];
    for (name, bytes) in cases {
        let path = write(dir.path(), name, bytes);
        let error = read(&Format::WebDataset, &path).unwrap_err();
        assert!(matches!(error, DataError::Shard { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(ImageStore::open(&path, SMALL).is_err(), "{name}");
    }
    let absent = dir.path().join("absent.tar");
    for format in [Format::WebDataset, jsonl(None), Format::Folder] {
        let error = read(&format, &absent).unwrap_err();
        assert!(error.to_string().contains("absent.tar"), "{error}");
    }
}

#[test]
fn members_of_hostile_size_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_path("a.png").unwrap();
    header.set_size(1 << 60);
    header.set_cksum();
    let path = write(dir.path(), "huge.tar", header.as_bytes());
    let error = read(&Format::WebDataset, &path).unwrap_err();
    assert!(matches!(error, DataError::Shard { .. }), "{error}");
    // A long name that is itself huge.
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(vec![b'a'; 3 << 20]);
    let path = write(dir.path(), "name.tar", bytes);
    let error = read(&Format::WebDataset, &path).unwrap_err();
    assert!(matches!(error, DataError::Shard { .. }), "{error}");
}

#[test]
fn jsonl_plain_and_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{{\"text\": \"{}\"}}", "y".repeat(9000));
    let text = format!(
        "{{\"n\": 1, \"image\": \"p.png\"}}\n\n{{\"n\": 2\n[3]\n{long}\n{{\"n\": 4, \"image\": \"../secret\"}}"
    );
    write(dir.path(), "pics/p.png", "P");
    write(dir.path(), "secret", "S");
    let store = ImageStore::open(&dir.path().join("pics"), SMALL).unwrap();
    let format = jsonl(Some(Arc::new(store)));
    let zst = zstd::encode_all(text.as_bytes(), 19).unwrap();
    for (name, bytes) in [
        ("l", text.clone().into_bytes()),
        ("l.gz", gzip(text.as_bytes())),
        ("l.zst", zst.clone()),
    ] {
        let path = write(dir.path(), name, bytes);
        let reads = read(&format, &path).unwrap();
        assert_eq!(reads.len(), 5);
        let broken = faults(reads.clone());
        let lines: Vec<&str> = broken.iter().map(|(name, _)| &**name).collect();
        assert_eq!(lines, [3, 4, 5].map(|line| format!("{name}:{line}")));
        let (Read::Record(first), Read::Record(last)) = (&reads[0], &reads[4]) else {
            panic!("{reads:?}");
        };
        assert_eq!(first.image.as_ref().unwrap().load().unwrap().bytes(), b"P");
        let refused = last.image.as_ref().unwrap().load().unwrap_err();
        assert!(refused.contains("leaves the folder"), "{refused}");
    }
    let path = write(dir.path(), "cut.zst", &zst[..zst.len() / 2]);
    let error = read(&format, &path).unwrap_err();
    assert!(error.to_string().contains("cut.zst"), "{error}");
}

#[test]
fn image_archives_and_folders_agree() {
    let dir = tempfile::tempdir().unwrap();
    let members: [(&str, &[u8]); 3] = [("a.png", b"A"), ("./d/b.jpg", b"BB"), ("note.txt", b"n")];
    let bytes = tar(&members);
    write(dir.path(), "f/a.png", "A");
    write(dir.path(), "f/d/b.jpg", "BB");
    let plain = write(dir.path(), "i.tar", &bytes);
    let packed = write(dir.path(), "i.tar.gz", gzip(&bytes));
    for path in [plain, packed, dir.path().join("f")] {
        let store = ImageStore::open(&path, SMALL).unwrap();
        assert_eq!(store.names(), ["a.png", "d/b.jpg"]);
        assert_eq!(store.get("./d/b.jpg").unwrap().bytes(), b"BB");
        let reason = store.get("c.png").unwrap_err();
        assert!(reason.contains("c.png"), "{reason}");
        for outside in ["../i.tar", "/etc/hostname", "d/../../i.tar"] {
            assert!(store.get(outside).is_err());
        }
    }
    // What is there but too large is told as that.
    let short = Bounds { entry: 1, ..SMALL };
    for name in ["i.tar", "i.tar.gz"] {
        let store = ImageStore::open(&dir.path().join(name), short).unwrap();
        let reason = store.get("d/b.jpg").unwrap_err();
        assert!(reason.contains("2 bytes"), "{reason}");
    }
    let tiny = Bounds {
        entry: 4096,
        archive: 2,
    };
    let error = ImageStore::open(&dir.path().join("i.tar.gz"), tiny).unwrap_err();
    assert!(error.to_string().contains("unpack it"), "{error}");
}

/// Turns are those of other chat data: they may have its names, and text in parts.
#[test]
fn conversations_have_the_turns_of_chat_data() {
    let dir = tempfile::tempdir().unwrap();
    let text = json!([{"id": 1, "conversations": [
        {"role": "user", "content": [{"type": "text", "text": "<image>\nwhat?"}]},
        {"role": "assistant", "content": "a cat"},
        {"from": "human", "value": "why?", "role": "asker", "content": null},
        {"from": "gpt", "value": "so"}]}]);
    let path = write(dir.path(), "c.json", text.to_string());
    let format = Format::Conversations {
        images: None,
        turns: Turns::Independent,
    };
    let got = records(&format, &path).into_iter();
    let got = got.map(|mut record| ["question", "answer"].map(|key| record.fields[key].take()));
    assert_eq!(
        got.collect::<Vec<_>>(),
        [["what?", "a cat"], ["why?", "so"]].map(|pair| pair.map(Value::from))
    );
}

#[test]
fn conversations_split_into_questions() {
    let dir = tempfile::tempdir().unwrap();
    let text = json!([
        {"id": "x-1", "image": "1.png", "conversations": [
            {"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "a {cat}"},
            {"from": "human", "value": "why]?"}, {"from": "gpt", "value": "\"so\""}]},
        {"id": 2, "conversations": [{"from": "gpt", "value": "hello"}]},
        {"id": 3, "image": "3.png"},
        {"image": "4.png", "conversations": [
            {"from": "human", "value": "where?\n<image>"}, {"from": "gpt", "value": "there"}]}
    ]);
    let format = |turns| Format::Conversations {
        images: None,
        turns,
    };
    let packed = gzip(serde_json::to_string_pretty(&text).unwrap().as_bytes());
    let path = write(dir.path(), "c.json", packed);
    let reads = read(&format(Turns::Independent), &path).unwrap();
    let broken = faults(reads.clone());
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert_eq!(broken[0].0, "c.json/2");
    let got: Vec<(String, Value, Value)> = reads
        .iter()
        .filter_map(|read| match read {
            Read::Record(record) => Some((
                record.key.clone(),
                record.fields["question"].clone(),
                record.fields["answer"].clone(),
            )),
            Read::Broken { .. } => None,
        })
        .collect();
    let wanted = [
        ("c.json/x-1/0", "what?", "a {cat}"),
        ("c.json/x-1/1", "why]?", "\"so\""),
        ("c.json#4/0", "where?", "there"),
    ];
    assert_eq!(
        got,
        wanted.map(|(key, question, answer)| (key.into(), question.into(), answer.into()))
    );
    let whole = read(&format(Turns::Conversation), &path).unwrap();
    let Read::Record(first) = &whole[0] else {
        panic!("{whole:?}");
    };
    assert_eq!(
        first.fields["messages"][3],
        json!({"role": "assistant", "content": "\"so\""})
    );

    for (name, bytes) in [
        ("o.json", "{}"),
        ("t.json", "[{\"id\": 1}, {\"id\""),
        ("n.json", "[1]"),
        ("e.json", ""),
    ] {
        let path = write(dir.path(), name, bytes);
        let error = read(&format(Turns::Independent), &path).unwrap_err();
        assert!(matches!(error, DataError::Shard { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn folders_by_class_and_by_metadata() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "r/cat/2.png",
        "r/cat/1.JPG",
        "r/dog/1.webp",
        "r/dog/notes.txt",
        "r/0.png",
    ] {
        write(dir.path(), name, name);
    }
    let root = dir.path().join("r");
    let found = records(&Format::Folder, &root);
    let keys: Vec<&str> = found.iter().map(|record| &*record.key).collect();
    assert_eq!(keys, ["0.png", "cat/1.JPG", "cat/2.png", "dog/1.webp"]);
    assert_eq!(fields(&found[0]), json!({"file_name": "0.png"}));
    assert_eq!(
        fields(&found[3]),
        json!({"label": "dog", "file_name": "dog/1.webp"})
    );
    assert_eq!(
        found[3].image.as_ref().unwrap().load().unwrap().bytes(),
        b"r/dog/1.webp"
    );

    let lines = "{\"file_name\": \"cat/2.png\", \"text\": \"two\"}\n{\"text\": \"none\"}\n";
    write(dir.path(), "r/metadata.jsonl", lines);
    let reads = read(&Format::Folder, &root).unwrap();
    assert_eq!(faults(reads.clone()).len(), 1);
    let Read::Record(first) = &reads[0] else {
        panic!("{reads:?}");
    };
    assert_eq!(
        first.image.as_ref().unwrap().load().unwrap().bytes(),
        b"r/cat/2.png"
    );
}

/// Some archivers put a hidden file beside each; those are no samples, and do not part the others.
#[test]
fn hidden_members_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = tar(&[
        ("._a.json", b"{}"),
        ("a.json", b"{\"caption\": \"one\"}"),
        ("d/._a.png", b"x"),
        ("a.png", b"A"),
        (".hidden.txt", b"x"),
    ]);
    let path = write(dir.path(), "s.tar", bytes);
    let reads = read(&Format::WebDataset, &path).unwrap();
    assert_eq!(reads.len(), 1, "{reads:?}");
    let Read::Record(record) = &reads[0] else {
        panic!("{reads:?}");
    };
    assert!(record.image.is_some() && record.fields.contains_key("caption"));
    let names = ImageStore::open(&path, SMALL).unwrap().names();
    assert_eq!(names, ["a.png"]);
}

/// A picture may be given by its codes; numbers that are none leave the record without a picture.
#[test]
fn pictures_are_given_as_codes() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"image\": [0, 7, 4294967295]}\n{\"image\": [1, -1]}\n{\"image\": [0.5]}\n{\"image\": []}\n";
    let path = write(dir.path(), "codes.jsonl", lines);
    let found = records(&jsonl(None), &path);
    let image = |at: usize| found[at].image.as_ref().map(|image| image.load().unwrap());
    let codes = image(0).unwrap();
    assert_eq!(codes.codes().unwrap(), [0, 7, u32::MAX]);
    assert!(codes.picture().is_err());
    assert!((1..4).all(|at| image(at).is_none()));
    assert_ne!(mmada_data::ImageBytes::of_codes(&[0, 7]).id(), codes.id());
    assert_eq!(mmada_data::ImageBytes::new(*b"RIFF").codes(), None);
}

/// Names fill the memory as bodies do, and hidden folders hold what is no sample.
#[test]
fn archives_of_names_are_bounded_and_hidden_folders_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..40).map(|number| format!("{number}.png")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let path = write(dir.path(), "names.tar.gz", gzip(&tar(&members)));
    let bounds = |archive| Bounds { archive, ..SMALL };
    assert!(ImageStore::open(&path, bounds(1 << 20)).is_ok());
    let error = ImageStore::open(&path, bounds(1000)).unwrap_err();
    assert!(
        error.to_string().contains("more than 1000 bytes"),
        "{error}"
    );

    write(dir.path(), "pictures/.thumbnails/a.png", "x");
    write(dir.path(), "pictures/b/a.png", "x");
    let names = ImageStore::open(&dir.path().join("pictures"), SMALL)
        .unwrap()
        .names();
    assert_eq!(names, ["b/a.png"]);
}
