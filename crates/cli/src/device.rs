//! Where to compute.

use mmada_tensor::Device;

use crate::args::DeviceArg;
use crate::usage;

/// Opens a device; one that this build or machine lacks is a mistake in how it was called.
pub(crate) fn open(device: DeviceArg) -> anyhow::Result<Device> {
    let (name, opened) = match device {
        DeviceArg::Cpu => return Ok(Device::Cpu),
        DeviceArg::Cuda => ("cuda", Device::new_cuda(0)),
        DeviceArg::Metal => ("metal", Device::new_metal(0)),
    };
    opened.map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().next().unwrap_or("no reason given");
        usage(format!(
            "device: expected a machine and a build with {name}, got \"{reason}\"; try --device cpu"
        ))
    })
}
