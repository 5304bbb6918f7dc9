//! A sampler by name, as typed: names and words are the presets' own.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use mmada_model::Preset;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SamplerArg(pub(crate) Preset);

impl SamplerArg {
    const ALL: [Self; Preset::ALL.len()] = {
        let mut all = [Self(Preset::Exact); Preset::ALL.len()];
        let mut index = 0;
        while index < all.len() {
            all[index] = Self(Preset::ALL[index]);
            index += 1;
        }
        all
    };
}

impl ValueEnum for SamplerArg {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()).help(self.0.summary()))
    }
}
