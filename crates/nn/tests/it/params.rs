//! Named tensors: fresh, read, handed out, saved.

use std::collections::BTreeMap;
use std::path::Path;

use mmada_nn::{Config, Error, Init, Mode, Params, SaveDtype, SaveOptions, Transformer};
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{DType, Device, Rows, Tensor};
use safetensors::SafeTensors;

use crate::common::{golden, small_sizes, values};

/// Dtype, shape and raw bytes of every tensor in a folder.
fn raw(dir: &Path) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let mut tensors = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("model") || !name.ends_with(".safetensors") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let one = (
                view.dtype().to_string(),
                view.shape().to_vec(),
                view.data().to_vec(),
            );
            assert!(tensors.insert(name, one).is_none());
        }
    }
    tensors
}

fn sharded(bytes: u64) -> SaveOptions {
    SaveOptions {
        dtype: SaveDtype::Keep,
        max_shard_bytes: bytes,
    }
}

#[test]
fn golden_weights_survive_sharded_saving_byte_for_byte() {
    let source = golden("transformer");
    let dir = tempfile::tempdir().unwrap();
    let expected = raw(&source);
    let total: usize = expected.values().map(|(_, _, bytes)| bytes.len()).sum();
    let total = total as u64;
    for mode in [Mode::Frozen, Mode::Trainable] {
        for max_shard_bytes in [1, total / 3, u64::MAX, total / 5] {
            let params = Params::load(&source, &Device::Cpu, None, mode).unwrap();
            params.save(dir.path(), &sharded(max_shard_bytes)).unwrap();
            assert!(raw(dir.path()) == expected, "{max_shard_bytes}");
            let again = Params::load(dir.path(), &Device::Cpu, None, mode).unwrap();
            assert!(again.names().eq(params.names()));
            let has_index = dir.path().join("model.safetensors.index.json").exists();
            assert_eq!(has_index, max_shard_bytes != u64::MAX);
            let files = std::fs::read_dir(dir.path()).unwrap().count();
            match max_shard_bytes {
                1 => assert_eq!(files, params.len() + 1),
                u64::MAX => assert_eq!(files, 1),
                _ => assert!(files > 2),
            }
        }
    }
}

#[test]
fn every_dtype_survives_and_only_floats_are_converted() {
    let mut params = Params::new(&Device::Cpu, Mode::Trainable);
    let numbers = Tensor::new(&[1.5f32, -0.0, 3.0e-3], &Device::Cpu).unwrap();
    params.insert("a.f32", numbers.clone()).unwrap();
    params
        .insert("b.bf16", numbers.to_dtype(DType::BF16).unwrap())
        .unwrap();
    params
        .insert("c.f16", numbers.to_dtype(DType::F16).unwrap())
        .unwrap();
    params
        .insert("d.i64", Tensor::new(&[i64::MIN, 7], &Device::Cpu).unwrap())
        .unwrap();
    params
        .insert(
            "e.empty",
            Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap(),
        )
        .unwrap();
    params
        .insert("f.scalar", Tensor::new(4f32, &Device::Cpu).unwrap())
        .unwrap();
    assert_eq!(params.vars().len(), 5);

    let dir = tempfile::tempdir().unwrap();
    params.save(dir.path(), &SaveOptions::default()).unwrap();
    let kept = Params::load(dir.path(), &Device::Cpu, None, Mode::Frozen).unwrap();
    for ((name, a), (_, b)) in params.iter().zip(kept.iter()) {
        assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()), "{name}");
        assert_eq!(values(a), values(b), "{name}");
    }
    let bytes = std::fs::read(dir.path().join("model.safetensors")).unwrap();
    let wide = Params::from_bytes(&bytes, &Device::Cpu, Some(DType::F32), Mode::Trainable).unwrap();
    assert_eq!(wide.get("c.f16", &[3]).unwrap().dtype(), DType::F32);
    assert_eq!(
        wide.get("d.i64", &[2]).unwrap().to_vec1::<i64>().unwrap(),
        [i64::MIN, 7]
    );

    let options = SaveOptions {
        dtype: SaveDtype::BF16,
        ..SaveOptions::default()
    };
    params.save(dir.path(), &options).unwrap();
    let narrow = Params::load(dir.path(), &Device::Cpu, None, Mode::Frozen).unwrap();
    assert_eq!(narrow.get("a.f32", &[3]).unwrap().dtype(), DType::BF16);
    assert_eq!(narrow.get("d.i64", &[2]).unwrap().dtype(), DType::I64);
}

#[test]
fn fresh_numbers_depend_on_key_and_name_but_not_on_order() {
    let key = Key::new(5, Purpose::Weights);
    let build = |names: [&str; 2]| {
        let mut params = Params::new(&Device::Cpu, Mode::Trainable);
        for name in names {
            params
                .fresh(name, &[40, 50], Init::Normal { std: 2.0 }, key)
                .unwrap();
        }
        params
    };
    let (one, two) = (build(["a", "b"]), build(["b", "a"]));
    for ((_, x), (_, y)) in one.iter().zip(two.iter()) {
        assert_eq!(values(x), values(y));
    }
    let a = values(&one.get("a", &[40, 50]).unwrap());
    assert_ne!(a, values(&one.get("b", &[40, 50]).unwrap()));
    let variance = a.iter().map(|x| x * x).sum::<f32>() / a.len() as f32;
    assert!((variance - 4.0).abs() < 0.5, "{variance}");

    let mut params = Params::new(&Device::Cpu, Mode::Frozen);
    let uniform = Init::Uniform {
        low: -1.0,
        high: 3.0,
    };
    params.fresh("u", &[1000], uniform, key).unwrap();
    let u = values(&params.get("u", &[1000]).unwrap());
    assert!(u.iter().all(|x| (-1.0..3.0).contains(x)) && u.iter().any(|x| *x > 2.0));
    params.fresh("z", &[2], Init::Zeros, key).unwrap();
    params.fresh("o", &[2], Init::Ones, key).unwrap();
    assert_eq!(values(&params.get("z", &[2]).unwrap()), [0.0, 0.0]);
    assert_eq!(values(&params.get("o", &[2]).unwrap()), [1.0, 1.0]);
    assert!(params.vars().is_empty());
    assert!(params.fresh("o", &[2], Init::Ones, key).is_err());
}

#[test]
fn a_wrong_name_or_shape_says_what_expected_and_got() {
    let mut params = Params::new(&Device::Cpu, Mode::Frozen);
    params
        .insert(
            "there",
            Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap(),
        )
        .unwrap();
    let missing = params.get("absent", &[2, 3]).unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }));
    assert!(missing.to_string().contains("absent"), "{missing}");
    let shape = params.get("there", &[3, 2]).unwrap_err();
    assert!(matches!(shape, Error::Shape { .. }));
    let text = shape.to_string();
    assert!(
        text.contains("there") && text.contains("[3, 2]") && text.contains("[2, 3]"),
        "{text}"
    );
}

#[test]
fn updates_of_variables_are_seen_by_networks_and_frozen_views_but_not_by_copies() {
    let cfg = Config::new(&small_sizes()).unwrap();
    let (mut params, model) = Transformer::init(&cfg, 0, &Device::Cpu).unwrap();
    let view = Transformer::load(&cfg, &params.frozen()).unwrap();
    let copy = Transformer::load(&cfg, &params.copied(Mode::Frozen).unwrap()).unwrap();
    let rows = Rows::pack([[1u32, 2, 3]]);
    let before = values(&model.hidden(&rows).unwrap());
    let wte = "model.transformer.wte.weight";
    let doubled = (params.get(wte, &[40, 32]).unwrap() * -3.0)
        .unwrap()
        .detach();
    params.set(wte, &doubled).unwrap();
    let after = values(&model.hidden(&rows).unwrap());
    assert_ne!(before, after);
    assert_eq!(after, values(&view.hidden(&rows).unwrap()));
    assert_eq!(before, values(&copy.hidden(&rows).unwrap()));
    assert_eq!(
        params.element_count(),
        params.iter().map(|(_, t)| t.elem_count()).sum::<usize>()
    );
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let mut params = Params::new(&Device::Cpu, Mode::Trainable);
    let put = |params: &mut Params, name: &str, x: f32| {
        params
            .insert(name, Tensor::new(&[0.0, x], &Device::Cpu).unwrap())
            .unwrap();
    };
    put(&mut params, "a", 1.0);
    params.check_finite().unwrap();
    put(&mut params, "c", f32::INFINITY);
    put(&mut params, "b", f32::NAN);
    let error = params.check_finite().unwrap_err();
    assert!(
        matches!(&error, Error::NotFinite { name, index: 1, .. } if name == "b"),
        "{error}"
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = Params::new(&Device::Cpu, Mode::Frozen);
    params
        .insert("a", Tensor::zeros(8, DType::F32, &Device::Cpu).unwrap())
        .unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"kept").unwrap();
    for target in [file.clone(), file.join("model")] {
        let error = params.save(&target, &SaveOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains("file"), "{error}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");

    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let mut rights = std::fs::metadata(&closed).unwrap().permissions();
    rights.set_readonly(true);
    std::fs::set_permissions(&closed, rights).unwrap();
    // The superuser may write anywhere.
    if std::fs::write(closed.join("probe"), b"").is_err() {
        let error = params.save(&closed, &SaveOptions::default()).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
        assert_eq!(std::fs::read_dir(&closed).unwrap().count(), 0);
    }
}
