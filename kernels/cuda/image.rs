//! The embedded kernels, and which of a kernel's images runs on a GPU.

use std::fmt;

use super::{EmbeddedKernel, KernelImage};

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// A kernel source: one `.cu` file.
#[derive(Debug)]
pub(crate) struct Module {
    /// The file's stem.
    pub(crate) name: &'static str,
    /// Its compiled forms.
    pub(crate) images: &'static [Image],
}

/// A module compiled for one architecture.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) arch: Arch,
    pub(crate) kind: Kind,
    /// PTX ends in a zero byte.
    pub(crate) bytes: &'static [u8],
}

/// What an image was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arch {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// `a`: no other GPU; `f`: its family, later minors included; none: as `f`, with the
    /// features that all GPUs of the major have.
    pub(crate) suffix: Option<char>,
}

/// What an image is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Machine code.
    Cubin,
    /// Text that the driver compiles, for any GPU from its architecture on.
    Ptx,
}

impl Image {
    /// Whether a GPU of this compute capability can run the image.
    fn runs_on(&self, capability: (u32, u32)) -> bool {
        let own = (self.arch.major, self.arch.minor);
        match (self.kind, self.arch.suffix) {
            (_, Some('a')) => own == capability,
            (Kind::Cubin, _) | (Kind::Ptx, Some(_)) => own.0 == capability.0 && own <= capability,
            (Kind::Ptx, None) => own <= capability,
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.kind {
            Kind::Cubin => "sm_",
            Kind::Ptx => "compute_",
        };
        write!(f, "{prefix}{}{}", self.arch.major, self.arch.minor)?;
        self.arch
            .suffix
            .map_or(Ok(()), |suffix| write!(f, "{suffix}"))
    }
}

/// The best image for a GPU: machine code before PTX, then the nearest architecture, then the
/// most specific one.
pub(crate) fn select(images: &[Image], capability: (u32, u32)) -> Option<&Image> {
    images
        .iter()
        .filter(|image| image.runs_on(capability))
        .max_by_key(|image| {
            let specific = match image.arch.suffix {
                Some('a') => 2,
                Some(_) => 1,
                None => 0,
            };
            let code = image.kind == Kind::Cubin;
            (code, image.arch.major, image.arch.minor, specific)
        })
}

/// The module of this name.
pub(crate) fn module(name: &str) -> Option<&'static Module> {
    MODULES.iter().find(|module| module.name == name)
}

/// All modules, described.
pub(crate) fn embedded() -> Vec<EmbeddedKernel> {
    MODULES
        .iter()
        .map(|module| EmbeddedKernel {
            name: module.name,
            archs: module.images.iter().map(Image::to_string).collect(),
            bytes: module.images.iter().map(|image| image.bytes.len()).sum(),
        })
        .collect()
}

/// All images, one by one.
pub(crate) fn all() -> Vec<KernelImage> {
    let images = |module: &'static Module| {
        module.images.iter().map(|image| KernelImage {
            module: module.name,
            target: image.to_string(),
            bytes: image.bytes,
        })
    };
    MODULES.iter().flat_map(images).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The images of the default build, bytes left out.
    fn images() -> Vec<Image> {
        let cubin = |major, minor, suffix| (Kind::Cubin, major, minor, suffix);
        [
            cubin(8, 0, None),
            cubin(8, 6, None),
            cubin(8, 9, None),
            cubin(9, 0, Some('a')),
            cubin(10, 0, Some('a')),
            cubin(12, 0, Some('a')),
            (Kind::Ptx, 8, 0, None),
        ]
        .into_iter()
        .map(|(kind, major, minor, suffix)| Image {
            arch: Arch {
                major,
                minor,
                suffix,
            },
            kind,
            bytes: &[],
        })
        .collect()
    }

    #[test]
    fn each_gpu_gets_the_image_that_the_cuda_compatibility_rules_allow() {
        let images = images();
        let expected = [
            ((7, 5), None),
            ((8, 0), Some("sm_80")),
            ((8, 6), Some("sm_86")),
            ((8, 7), Some("sm_86")),
            ((8, 9), Some("sm_89")),
            ((9, 0), Some("sm_90a")),
            ((10, 0), Some("sm_100a")),
            // An image with `a` runs on its own GPU alone, so these fall back to PTX.
            ((10, 3), Some("compute_80")),
            ((12, 1), Some("compute_80")),
            ((13, 0), Some("compute_80")),
        ];
        for (capability, name) in expected {
            let chosen = select(&images, capability).map(Image::to_string);
            assert_eq!(chosen.as_deref(), name, "compute capability {capability:?}");
        }
    }

    #[test]
    fn a_family_image_serves_later_minors_and_loses_to_the_exact_one() {
        let mut images = images();
        images.push(Image {
            arch: Arch {
                major: 10,
                minor: 0,
                suffix: Some('f'),
            },
            kind: Kind::Cubin,
            bytes: &[],
        });
        let chosen = |capability| select(&images, capability).map(Image::to_string);
        assert_eq!(chosen((10, 3)).as_deref(), Some("sm_100f"));
        assert_eq!(chosen((10, 0)).as_deref(), Some("sm_100a"));
    }

    #[test]
    fn the_embedded_images_are_what_their_kind_says() {
        for image in MODULES.iter().flat_map(|module| module.images) {
            match image.kind {
                Kind::Cubin => assert!(image.bytes.starts_with(b"\x7fELF"), "{image}"),
                Kind::Ptx => assert_eq!(image.bytes.last(), Some(&0), "{image}"),
            }
        }
    }
}
