//! The twelve types of the provider's page and what each takes, needs and costs.
//!
//! Source: the provider's API page (`https://kling3api.com`, API v1.0), as read on [`PRICES_AS_OF`].

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

use super::credits::Credits;

/// The day on which the page's prices were read.
pub const PRICES_AS_OF: &str = "2026-11-22";

/// Seconds a video may last, for every type that takes a duration (page: "3-15s").
pub const DURATION_S: RangeInclusive<u8> = 3..=15;
/// Seconds when `duration` is not set (page: "Defaults to 5").
pub const DEFAULT_DURATION_S: u8 = 5;
/// Characters a prompt may have (page: at most 2000).
pub const MAX_PROMPT_CHARS: usize = 2000;
/// Reference images a request may carry (page: at most 7).
pub const MAX_IMAGES: usize = 7;

/// A `type` of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each variant is the provider's own word")]
pub enum JobType {
    ProTextToVideo,
    ProImageToVideo,
    StdTextToVideo,
    StdImageToVideo,
    O3ProTextToVideo,
    O3ProImageToVideo,
    O3ProReferenceToVideo,
    O3ProVideoEdit,
    O3StdTextToVideo,
    O3StdImageToVideo,
    O3StdReferenceToVideo,
    O3StdVideoEdit,
}

/// The two model families; a task's id begins with its family's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Kling 3.0, task ids `n75…`.
    Kling3,
    /// Kling Video O3, task ids `n71…`.
    O3,
}

impl Model {
    /// The prefix of this family's task ids.
    pub const fn task_prefix(self) -> &'static str {
        match self {
            Model::Kling3 => "n75",
            Model::O3 => "n71",
        }
    }
}

/// What a type does, which decides the inputs it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A prompt alone.
    Text,
    /// A start image, perhaps an end frame.
    Image,
    /// Reference images or a reference video.
    Reference,
    /// A video to change.
    Edit,
}

/// How a type is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// Credits a second; `silent` and `sound` are equal where the page has one price.
    PerSecond {
        /// Without audio.
        silent: Credits,
        /// With audio.
        sound: Credits,
    },
    /// Credits for the whole video, whatever its length.
    Fixed(Credits),
}

impl Price {
    const fn per_second(silent: u64, sound: u64) -> Self {
        Price::PerSecond { silent: Credits::new(silent), sound: Credits::new(sound) }
    }

    /// Credits for a video of `seconds` with or without sound.
    pub const fn of(self, seconds: u8, with_sound: bool) -> Credits {
        match self {
            Price::PerSecond { silent, sound } => {
                (if with_sound { sound } else { silent }).times(seconds as u64)
            }
            Price::Fixed(credits) => credits,
        }
    }

    /// Whether `sound` changes what is paid.
    pub fn depends_on_sound(self) -> bool {
        matches!(self, Price::PerSecond { silent, sound } if silent != sound)
    }
}

/// A request field of the provider's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the provider's own word")]
pub enum Field {
    Type,
    Prompt,
    Duration,
    AspectRatio,
    Image,
    EndImage,
    Video,
    Images,
    Sound,
    NegativePrompt,
    CfgScale,
    KeepOriginalSound,
    /// klingd's own: fields sent as they are.
    Extra,
}

impl Field {
    /// The provider's fields, in the order in which they are sent.
    pub const ALL: [Field; 12] = [
        Field::Type,
        Field::Prompt,
        Field::Duration,
        Field::AspectRatio,
        Field::Image,
        Field::EndImage,
        Field::Video,
        Field::Images,
        Field::Sound,
        Field::NegativePrompt,
        Field::CfgScale,
        Field::KeepOriginalSound,
    ];

    /// The provider's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Type => "type",
            Field::Prompt => "prompt",
            Field::Duration => "duration",
            Field::AspectRatio => "aspect_ratio",
            Field::Image => "image",
            Field::EndImage => "end_image",
            Field::Video => "video",
            Field::Images => "images",
            Field::Sound => "sound",
            Field::NegativePrompt => "negative_prompt",
            Field::CfgScale => "cfg_scale",
            Field::KeepOriginalSound => "keep_original_sound",
            Field::Extra => "extra",
        }
    }
}

impl JobType {
    /// All twelve, in the page's order.
    pub const ALL: [JobType; 12] = [
        JobType::ProTextToVideo,
        JobType::ProImageToVideo,
        JobType::StdTextToVideo,
        JobType::StdImageToVideo,
        JobType::O3ProTextToVideo,
        JobType::O3ProImageToVideo,
        JobType::O3ProReferenceToVideo,
        JobType::O3ProVideoEdit,
        JobType::O3StdTextToVideo,
        JobType::O3StdImageToVideo,
        JobType::O3StdReferenceToVideo,
        JobType::O3StdVideoEdit,
    ];

    /// One row of the capability table: the provider's word, what it does, what it costs.
    const fn row(self) -> (&'static str, Task, Price) {
        use JobType as T;
        match self {
            T::ProTextToVideo => ("pro-text-to-video", Task::Text, Price::per_second(54, 80)),
            T::ProImageToVideo => ("pro-image-to-video", Task::Image, Price::per_second(54, 80)),
            T::StdTextToVideo => ("std-text-to-video", Task::Text, Price::per_second(40, 60)),
            T::StdImageToVideo => ("std-image-to-video", Task::Image, Price::per_second(40, 60)),
            T::O3ProTextToVideo => ("o3-pro-text-to-video", Task::Text, Price::per_second(48, 48)),
            T::O3ProImageToVideo => ("o3-pro-image-to-video", Task::Image, Price::per_second(48, 48)),
            T::O3ProReferenceToVideo => {
                ("o3-pro-reference-to-video", Task::Reference, Price::per_second(72, 72))
            }
            T::O3ProVideoEdit => ("o3-pro-video-edit", Task::Edit, Price::Fixed(Credits::new(435))),
            T::O3StdTextToVideo => ("o3-std-text-to-video", Task::Text, Price::per_second(36, 36)),
            T::O3StdImageToVideo => ("o3-std-image-to-video", Task::Image, Price::per_second(36, 36)),
            T::O3StdReferenceToVideo => {
                ("o3-std-reference-to-video", Task::Reference, Price::per_second(20, 20))
            }
            T::O3StdVideoEdit => ("o3-std-video-edit", Task::Edit, Price::Fixed(Credits::new(360))),
        }
    }

    /// The provider's word for it.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// What it does.
    pub const fn task(self) -> Task {
        self.row().1
    }

    /// The page's price.
    pub const fn price(self) -> Price {
        self.row().2
    }

    /// The family whose name its task ids begin with.
    pub fn model(self) -> Model {
        if self.as_str().starts_with("o3-") { Model::O3 } else { Model::Kling3 }
    }

    /// Seconds it can last, or `None` where the input decides (video edit).
    pub fn duration_s(self) -> Option<RangeInclusive<u8>> {
        (self.task() != Task::Edit).then_some(DURATION_S)
    }

    /// Whether the page gives `field` to this type. What it does not take would be paid for and ignored.
    pub fn takes(self, field: Field) -> bool {
        match field {
            Field::Type
            | Field::Prompt
            | Field::AspectRatio
            | Field::Sound
            | Field::NegativePrompt
            | Field::Extra => true,
            Field::Duration => self.duration_s().is_some(),
            Field::Image | Field::EndImage => self.task() == Task::Image,
            Field::Images => self.task() == Task::Reference,
            // The page shows `keep_original_sound` with an edit only; it means something wherever a video comes in.
            Field::Video | Field::KeepOriginalSound => matches!(self.task(), Task::Reference | Task::Edit),
            Field::CfgScale => self.model() == Model::Kling3,
        }
    }

    /// The inputs of which at least one must be there (none for text-to-video).
    pub const fn needs_one_of(self) -> &'static [Field] {
        match self.task() {
            Task::Text => &[],
            Task::Image => &[Field::Image],
            Task::Reference => &[Field::Images, Field::Video],
            Task::Edit => &[Field::Video],
        }
    }
}

impl fmt::Display for JobType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not one of the twelve types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a type of the provider")]
pub struct UnknownType(pub String);

impl FromStr for JobType {
    type Err = UnknownType;
    fn from_str(s: &str) -> Result<Self, UnknownType> {
        JobType::ALL.into_iter().find(|t| t.as_str() == s).ok_or_else(|| UnknownType(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page's table, typed from the page and not from the code above.
    #[test]
    fn prices_equal_the_page() {
        let page = [
            ("pro-text-to-video", 54, 80),
            ("pro-image-to-video", 54, 80),
            ("std-text-to-video", 40, 60),
            ("std-image-to-video", 40, 60),
            ("o3-pro-text-to-video", 48, 48),
            ("o3-pro-image-to-video", 48, 48),
            ("o3-pro-reference-to-video", 72, 72),
            ("o3-std-text-to-video", 36, 36),
            ("o3-std-image-to-video", 36, 36),
            ("o3-std-reference-to-video", 20, 20),
        ];
        for (word, silent, sound) in page {
            let t: JobType = word.parse().unwrap();
            for s in 3..=15u8 {
                assert_eq!(t.price().of(s, false).get(), silent * u64::from(s), "{word} {s} s silent");
                assert_eq!(t.price().of(s, true).get(), sound * u64::from(s), "{word} {s} s with sound");
            }
        }
        for (word, fixed) in [("o3-pro-video-edit", 435), ("o3-std-video-edit", 360)] {
            let t: JobType = word.parse().unwrap();
            assert_eq!(t.price().of(7, true).get(), fixed);
            assert_eq!(t.duration_s(), None, "{word}: the input decides");
        }
        // The page's own example: 5 s of pro with sound is 400.
        assert_eq!(JobType::ProTextToVideo.price().of(5, true).get(), 400);
    }

    #[test]
    fn words_are_the_same_in_serde_and_text() {
        for t in JobType::ALL {
            assert_eq!(serde_json::to_value(t).unwrap(), t.as_str());
            assert_eq!(t.as_str().parse::<JobType>().unwrap(), t);
        }
        assert!("pro-text-to-vide".parse::<JobType>().is_err());
    }
}
