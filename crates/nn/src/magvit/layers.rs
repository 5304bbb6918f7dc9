//! The parts of the image tokenizer, smallest first, fields named like the published tensors.
//!
//! ```text
//!   Encoder  conv_in ─ down.0 … down.n ─ mid ─ norm_out, silu ─ conv_out ─ quant_conv
//!   Decoder  post_quant_conv ─ conv_in ─ mid ─ up.n … up.0 ─ norm_out, silu ─ conv_out
//!   level    block.0 … block.k ─ downsample or upsample (not in down.n, up.0)
//!   mid      block_1 ─ attn_1 ─ block_2
//! ```
//!
//! Letters: b batch, c channels, h and w height and width of the feature map.

use mmada_tensor::ops::{self, Heads};
use mmada_tensor::{Segment, Tensor};

use super::{Config, Make, Visit};
use crate::{Init, Result};

/// Of every group normalisation, as published.
const NORM_EPS: f64 = 1e-6;

#[derive(Debug, Clone)]
struct Conv {
    weight: Tensor,
    bias: Tensor,
}

impl Conv {
    fn build(name: &str, [input, output, side]: [usize; 3], make: Make) -> Result<Self> {
        let bound = 1.0 / ((input * side * side) as f32).sqrt();
        let init = Init::Uniform {
            low: -bound,
            high: bound,
        };
        Ok(Self {
            weight: make(
                &format!("{name}.weight"),
                &[output, input, side, side],
                init,
            )?,
            bias: make(&format!("{name}.bias"), &[output], init)?,
        })
    }

    /// Keeps height and width.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let padding = self.weight.dim(3)? / 2;
        Ok(ops::conv2d(x, &self.weight, &self.bias, 1, padding)?)
    }

    /// Halves height and width; the zeros are only at the bottom and the right.
    fn downsample(&self, x: &Tensor) -> Result<Tensor> {
        let x = ops::pad_bottom_right(x, 1)?;
        Ok(ops::conv2d(&x, &self.weight, &self.bias, 2, 0)?)
    }

    /// Doubles height and width.
    fn upsample(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(&ops::upsample_nearest2(x)?)
    }

    /// A 1x1 convolution on rows of channels `[r, c]`.
    fn rows(&self, x: &Tensor) -> Result<Tensor> {
        let (output, input, _, _) = self.weight.dims4()?;
        let y = ops::linear(x, &self.weight.reshape((output, input))?)?;
        Ok(y.broadcast_add(&self.bias)?)
    }
}

#[derive(Debug, Clone)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
}

impl Norm {
    fn build(name: &str, width: usize, groups: usize, make: Make) -> Result<Self> {
        Ok(Self {
            weight: make(&format!("{name}.weight"), &[width], Init::Ones)?,
            bias: make(&format!("{name}.bias"), &[width], Init::Zeros)?,
            groups,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::group_norm(
            x,
            &self.weight,
            &self.bias,
            self.groups,
            NORM_EPS,
        )?)
    }

    fn silu(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::group_norm_silu(
            x,
            &self.weight,
            &self.bias,
            self.groups,
            NORM_EPS,
        )?)
    }
}

/// `x + conv2(silu(norm2(conv1(silu(norm1(x))))))`, with a 1x1 convolution on the short way where
/// the width changes.
#[derive(Debug, Clone)]
struct ResBlock {
    name: String,
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
    nin_shortcut: Option<Conv>,
}

impl ResBlock {
    fn build(name: String, input: usize, output: usize, groups: usize, make: Make) -> Result<Self> {
        let nin_shortcut = if input == output {
            None
        } else {
            let part = format!("{name}.nin_shortcut");
            Some(Conv::build(&part, [input, output, 1], make)?)
        };
        Ok(Self {
            norm1: Norm::build(&format!("{name}.norm1"), input, groups, make)?,
            conv1: Conv::build(&format!("{name}.conv1"), [input, output, 3], make)?,
            norm2: Norm::build(&format!("{name}.norm2"), output, groups, make)?,
            conv2: Conv::build(&format!("{name}.conv2"), [output, output, 3], make)?,
            nin_shortcut,
            name,
        })
    }

    fn forward(&self, x: &Tensor, visit: Visit) -> Result<Tensor> {
        let inner = self.conv1.forward(&self.norm1.silu(x)?)?;
        let inner = self.conv2.forward(&self.norm2.silu(&inner)?)?;
        let out = match &self.nin_shortcut {
            Some(conv) => (conv.forward(x)? + inner)?,
            None => (x + inner)?,
        };
        visit(&self.name, &out);
        Ok(out)
    }
}

/// Single-head attention of every position to every other of the same image.
#[derive(Debug, Clone)]
struct AttnBlock {
    name: String,
    norm: Norm,
    q: Conv,
    k: Conv,
    v: Conv,
    proj_out: Conv,
}

impl AttnBlock {
    fn build(name: String, width: usize, groups: usize, make: Make) -> Result<Self> {
        let size = [width, width, 1];
        Ok(Self {
            norm: Norm::build(&format!("{name}.norm"), width, groups, make)?,
            q: Conv::build(&format!("{name}.q"), size, make)?,
            k: Conv::build(&format!("{name}.k"), size, make)?,
            v: Conv::build(&format!("{name}.v"), size, make)?,
            proj_out: Conv::build(&format!("{name}.proj_out"), size, make)?,
            name,
        })
    }

    fn forward(&self, x: &Tensor, visit: Visit) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        let positions = h * w;
        // [b, c, h, w] -> [b * h * w, c]
        let rows = self.norm.forward(x)?.reshape((b, c, positions))?;
        let rows = rows
            .transpose(1, 2)?
            .contiguous()?
            .reshape((b * positions, c))?;
        let segments: Vec<Segment> = (0..b)
            .map(|i| i * positions..(i + 1) * positions)
            .map(|rows| Segment::new(rows.clone(), rows))
            .collect();
        let heads = Heads {
            query: 1,
            key_value: 1,
        };
        let (q, k, v) = (
            self.q.rows(&rows)?,
            self.k.rows(&rows)?,
            self.v.rows(&rows)?,
        );
        let mixed = self
            .proj_out
            .rows(&ops::attention(&q, &k, &v, heads, &segments)?)?;
        let mixed = mixed
            .reshape((b, positions, c))?
            .transpose(1, 2)?
            .contiguous()?;
        let out = (x + mixed.reshape((b, c, h, w))?)?;
        visit(&self.name, &out);
        Ok(out)
    }
}

#[derive(Debug, Clone)]
struct Mid {
    block_1: ResBlock,
    attn_1: AttnBlock,
    block_2: ResBlock,
}

impl Mid {
    fn build(name: &str, width: usize, groups: usize, make: Make) -> Result<Self> {
        Ok(Self {
            block_1: ResBlock::build(format!("{name}.block_1"), width, width, groups, make)?,
            attn_1: AttnBlock::build(format!("{name}.attn_1"), width, groups, make)?,
            block_2: ResBlock::build(format!("{name}.block_2"), width, width, groups, make)?,
        })
    }

    fn forward(&self, x: &Tensor, visit: Visit) -> Result<Tensor> {
        let x = self.block_1.forward(x, visit)?;
        let x = self.attn_1.forward(&x, visit)?;
        self.block_2.forward(&x, visit)
    }
}

/// Residual blocks of one resolution.
#[derive(Debug, Clone)]
struct Blocks(Vec<ResBlock>);

impl Blocks {
    fn build(
        level: &str,
        count: usize,
        [input, output]: [usize; 2],
        groups: usize,
        make: Make,
    ) -> Result<Self> {
        let block = |i| {
            let input = if i == 0 { input } else { output };
            ResBlock::build(format!("{level}.block.{i}"), input, output, groups, make)
        };
        (0..count).map(block).collect::<Result<_>>().map(Self)
    }

    fn forward(&self, x: &Tensor, visit: Visit) -> Result<Tensor> {
        let blocks = self.0.iter();
        blocks
            .into_iter()
            .try_fold(x.clone(), |x, block| block.forward(&x, visit))
    }
}

/// Blocks, and the change of resolution after them with its name.
#[derive(Debug, Clone)]
struct Level {
    blocks: Blocks,
    resample: Option<(String, Conv)>,
}

/// Images to latents.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    conv_in: Conv,
    down: Vec<Level>,
    mid: Mid,
    norm_out: Norm,
    conv_out: Conv,
    quant_conv: Conv,
}

impl Encoder {
    pub(super) fn build(cfg: &Config, make: Make) -> Result<Self> {
        let (stack, groups, bits) = (&cfg.encoder, cfg.norm_groups, cfg.z_channels);
        let last = stack.ch_mult.len() - 1;
        let conv_in = Conv::build("encoder.conv_in", [cfg.in_ch, stack.ch, 3], make)?;
        let mut width = stack.ch;
        let mut down = Vec::new();
        for (i, &count) in stack.num_res_blocks.iter().enumerate() {
            let (name, output) = (format!("encoder.down.{i}"), stack.width(i));
            let blocks = Blocks::build(&name, count, [width, output], groups, make)?;
            width = output;
            let resample = if i == last {
                None
            } else {
                let name = format!("{name}.downsample");
                let conv = Conv::build(&format!("{name}.conv"), [width, width, 3], make)?;
                Some((name, conv))
            };
            down.push(Level { blocks, resample });
        }
        Ok(Self {
            conv_in,
            down,
            mid: Mid::build("encoder.mid", width, groups, make)?,
            norm_out: Norm::build("encoder.norm_out", width, groups, make)?,
            conv_out: Conv::build("encoder.conv_out", [width, bits, 3], make)?,
            quant_conv: Conv::build("encoder.quant_conv", [bits, bits, 1], make)?,
        })
    }

    /// `[b, in, H, W]` to `[b, bits, H/f, W/f]`
    pub(super) fn forward(&self, images: &Tensor, visit: Visit) -> Result<Tensor> {
        let images = images.to_dtype(self.conv_in.weight.dtype())?;
        let mut x = self.conv_in.forward(&images)?;
        visit("encoder.conv_in", &x);
        for level in &self.down {
            x = level.blocks.forward(&x, visit)?;
            if let Some((name, conv)) = &level.resample {
                x = conv.downsample(&x)?;
                visit(name, &x);
            }
        }
        x = self.mid.forward(&x, visit)?;
        x = self.conv_out.forward(&self.norm_out.silu(&x)?)?;
        visit("encoder.conv_out", &x);
        self.quant_conv.forward(&x)
    }
}

/// Latents to images.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    post_quant_conv: Conv,
    conv_in: Conv,
    mid: Mid,
    /// Finest first, as published; run from the last to the first.
    up: Vec<Level>,
    norm_out: Norm,
    conv_out: Conv,
}

impl Decoder {
    pub(super) fn build(cfg: &Config, make: Make) -> Result<Self> {
        let (stack, groups, bits) = (&cfg.decoder, cfg.norm_groups, cfg.z_channels);
        let last = stack.ch_mult.len() - 1;
        let mut width = stack.width(last);
        let conv_in = Conv::build("decoder.conv_in", [bits, width, 3], make)?;
        let mid = Mid::build("decoder.mid", width, groups, make)?;
        let mut up = Vec::new();
        for (i, &count) in stack.num_res_blocks.iter().enumerate().rev() {
            let (name, output) = (format!("decoder.up.{i}"), stack.width(i));
            let blocks = Blocks::build(&name, count, [width, output], groups, make)?;
            width = output;
            let resample = if i == 0 {
                None
            } else {
                let name = format!("{name}.upsample");
                let conv = Conv::build(&format!("{name}.conv"), [width, width, 3], make)?;
                Some((name, conv))
            };
            up.push(Level { blocks, resample });
        }
        up.reverse();
        Ok(Self {
            post_quant_conv: Conv::build("decoder.post_quant_conv", [bits, bits, 1], make)?,
            conv_in,
            mid,
            up,
            norm_out: Norm::build("decoder.norm_out", width, groups, make)?,
            conv_out: Conv::build("decoder.conv_out", [width, cfg.out_ch, 3], make)?,
        })
    }

    /// `[b, bits, h, w]` to `[b, out, f·h, f·w]`
    pub(super) fn forward(&self, zq: &Tensor, visit: Visit) -> Result<Tensor> {
        let zq = zq.to_dtype(self.conv_in.weight.dtype())?;
        let mut x = self.conv_in.forward(&self.post_quant_conv.forward(&zq)?)?;
        visit("decoder.conv_in", &x);
        x = self.mid.forward(&x, visit)?;
        for level in self.up.iter().rev() {
            x = level.blocks.forward(&x, visit)?;
            if let Some((name, conv)) = &level.resample {
                x = conv.upsample(&x)?;
                visit(name, &x);
            }
        }
        self.conv_out.forward(&self.norm_out.silu(&x)?)
    }
}
