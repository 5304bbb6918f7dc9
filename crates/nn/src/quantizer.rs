//! Lookup-free quantisation: a code is the signs of its latent, and the codebook is implied.
//!
//! ```text
//!   z [b, bits, h, w] ──z > 0──► bits, most significant first ──► code in 0..2^bits
//!                                 └──────► -1 / +1 ──► zq, gradient of zq passed on to z
//! ```
//!
//! Source: `LFQuantizer` in `models/modeling_magvitv2.py`. Letters: b batch, h and w height and
//! width of the token grid.

use mmada_tensor::{D, DType, Device, Tensor};

use crate::magvit::Coefficients;
use crate::{Error, Params, Result};

/// The quantiser's losses, scalars with gradients; a trainer adds them up.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Pulls latents to -1 and +1 (`quantizer_loss` of the original).
    pub commitment: Tensor,
    /// Makes each bit sure of itself and all values of it equally common (`entropy_loss`).
    pub entropy: Tensor,
}

/// Both losses of latents before quantisation.
///
/// # Shapes
/// z `[b, bits, h, w]`, results scalars
pub fn losses(z: &Tensor, coefficients: &Coefficients) -> Result<Losses> {
    Ok(Losses {
        commitment: (commitment(z, coefficients.beta)? * coefficients.commit_loss_multiplier)?,
        entropy: (entropy(z)? * coefficients.entropy_multiplier)?,
    })
}

/// `mean((sg(zq) - z)²) + β · mean((zq - sg(z))²)`, sg being stop-gradient.
///
/// The original feeds in the straight-through zq, whose gradient is that of z. So the value is
/// (1 + β) times the squared distance but its gradient (1 - β) times that of it: the second term
/// pushes the other way. Kept as published.
fn commitment(z: &Tensor, beta: f64) -> Result<Tensor> {
    let zq = straight_through(z)?;
    let to_codes = (zq.detach() - z)?.sqr()?.mean_all()?;
    let to_latents = (&zq - z.detach())?.sqr()?.mean_all()?;
    Ok((to_codes + (to_latents * beta)?)?)
}

/// Mean entropy of a bit given its latent, minus the mean entropy of a bit on average over the
/// batch. A bit is 1 with probability softmax(-(z - 1)², -(z + 1)²) = sigmoid(4z). In nats.
fn entropy(z: &Tensor) -> Result<Tensor> {
    let z = z.to_dtype(DType::F32)?;
    // log p = l/2 - c and log(1 - p) = -l/2 - c with l = 4z and c = log(2 cosh(l/2)), written so
    // that nothing overflows or cancels.
    let half = (&z * 2.0)?;
    let magnitude = half.abs()?;
    let log_cosh = (&magnitude + ((&magnitude * -2.0)?.exp()? + 1.0)?.log()?)?;
    let one = (&half - &log_cosh)?.exp()?;
    let zero = (half.neg()? - &log_cosh)?.exp()?;
    let given = (&log_cosh - half * (&one - &zero)?)?.mean_all()?;
    // [b, bits, h, w] -> [bits]
    let average = |p: &Tensor| {
        p.transpose(0, 1)?
            .contiguous()?
            .flatten_from(1)?
            .mean(D::Minus1)
    };
    let plogp = |p: &Tensor| p * (p + 1e-20)?.log()?;
    let overall = (plogp(&average(&one)?)? + plogp(&average(&zero)?)?)?.mean_all()?;
    Ok((given + overall)?)
}

/// The signs -1 and +1 (of 0: -1) as constants.
pub fn signs(z: &Tensor) -> Result<Tensor> {
    let z = z.detach();
    Ok(z.gt(&z.zeros_like()?)?
        .to_dtype(z.dtype())?
        .affine(2.0, -1.0)?)
}

/// The signs in value, z in gradient (Bengio et al. 2013).
pub fn straight_through(z: &Tensor) -> Result<Tensor> {
    Ok((z + (signs(z)? - z)?.detach())?)
}

/// The code of every position, row-major, per image.
///
/// # Shapes
/// z `[b, bits, h, w]`, result b lists of h · w
pub fn codes(z: &Tensor) -> Result<Vec<Vec<u32>>> {
    let (b, bits, h, w) = z.dims4()?;
    check_bits(bits)?;
    let z = z
        .detach()
        .to_dtype(DType::F32)?
        .reshape((b, bits, h * w))?
        .to_vec3::<f32>()?;
    let code = |planes: &[Vec<f32>], at: usize| {
        let bits = planes.iter().map(|plane| u32::from(plane[at] > 0.0));
        bits.fold(0, |code, bit| code << 1 | bit)
    };
    let image = |planes: &Vec<Vec<f32>>| (0..h * w).map(|at| code(planes, at)).collect();
    Ok(z.iter().map(image).collect())
}

/// The latents of codes: -1 or +1.
///
/// # Shapes
/// b lists of h · w codes below 2^bits, result `[b, bits, h, w]`, f32
pub fn latents(
    codes: &[Vec<u32>],
    (h, w): (usize, usize),
    bits: usize,
    device: &Device,
) -> Result<Tensor> {
    check_bits(bits)?;
    let positions = h.saturating_mul(w);
    if positions == 0 || codes.is_empty() {
        let got = format!("{} images of {h}x{w}", codes.len());
        return Err(Error::input(
            "image codes",
            "at least one image of one token",
            got,
        ));
    }
    let mut values = Vec::with_capacity(codes.iter().map(Vec::len).sum::<usize>() * bits);
    for image in codes {
        if image.len() != positions {
            let expected = format!("{h}x{w} = {positions} codes per image");
            return Err(Error::input("image codes", expected, image.len()));
        }
        if let Some(code) = image.iter().find(|code| **code >> bits != 0) {
            return Err(Error::input(
                "image code",
                format!("a number below 2^{bits}"),
                code,
            ));
        }
        for bit in (0..bits).rev() {
            values.extend(image.iter().map(|code| sign_of(code >> bit)));
        }
    }
    Ok(Tensor::from_vec(values, (codes.len(), bits, h, w), device)?)
}

fn sign_of(bit: u32) -> f32 {
    if bit & 1 == 1 { 1.0 } else { -1.0 }
}

fn check_bits(bits: usize) -> Result<()> {
    if (1..32).contains(&bits) {
        return Ok(());
    }
    Err(Error::input("bits of an image code", "1 to 31", bits))
}

const EMBEDDING: &str = "quantize.embedding";
const POWERS: &str = "quantize.power_vals";

/// The implied codebook as published files hold it: the latent of every code.
///
/// # Shapes
/// `[2^bits, bits]`, f32
fn embedding(bits: usize, device: &Device) -> Result<Tensor> {
    let row = |code: u32| (0..bits).rev().map(move |bit| sign_of(code >> bit));
    let values: Vec<f32> = (0..1u32 << bits).flat_map(row).collect();
    Ok(Tensor::from_vec(values, (1 << bits, bits), device)?)
}

/// The value of every bit, beside it in published files.
///
/// # Shapes
/// `[bits]`, i64
fn powers(bits: usize, device: &Device) -> Result<Tensor> {
    let powers: Vec<i64> = (0..bits).rev().map(|bit| 1 << bit).collect();
    Ok(Tensor::from_vec(powers, bits, device)?)
}

/// Adds the buffers to the parameters of a new model, for the original to read.
pub(crate) fn insert_buffers(params: &mut Params, bits: usize) -> Result<()> {
    check_bits(bits)?;
    let device = params.device().clone();
    params.insert(EMBEDDING, embedding(bits, &device)?)?;
    params.insert(POWERS, powers(bits, &device)?)
}

/// The buffers are not needed, but where present they must say what the code assumes.
pub(crate) fn check_buffers(params: &Params, bits: usize) -> Result<()> {
    check_bits(bits)?;
    let (device, codes) = (params.device(), 1 << bits);
    if params.contains(EMBEDDING) {
        // The shape first: a small file may say that it has many bits.
        let got = params.get(EMBEDDING, &[codes, bits])?;
        check_buffer(EMBEDDING, &got, &embedding(bits, device)?)?;
    }
    if params.contains(POWERS) {
        let got = params.get(POWERS, &[bits])?;
        check_buffer(POWERS, &got, &powers(bits, device)?)?;
    }
    Ok(())
}

fn check_buffer(name: &str, got: &Tensor, expected: &Tensor) -> Result<()> {
    let got = got.detach().to_dtype(expected.dtype())?;
    let wrong = got
        .ne(expected)?
        .to_dtype(DType::F32)?
        .sum_all()?
        .to_scalar::<f32>()?;
    if wrong > 0.0 {
        return Err(Error::input(
            format!("tensor {name:?}"),
            "signs and powers of two, most significant bit first",
            format!("{wrong} other numbers; these codes belong to another quantiser"),
        ));
    }
    Ok(())
}

/// Whether a tensor of this name is one of the quantiser's constant buffers, which an optimiser
/// must leave alone.
pub fn is_buffer(name: &str) -> bool {
    name == EMBEDDING || name == POWERS
}
