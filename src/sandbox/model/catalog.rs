//! The twelve types and their prices, copied from the provider's page by hand: a table shared with the client would
//! share its mistakes.

/// One `type` of request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub name: &'static str,
    pub model: GenerationModel,
    pub input: Input,
    price: Price,
}

/// The model behind a type; it shows in the prefix of the task id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GenerationModel {
    Kling3,
    O3,
}

/// What a type works from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Text,
    Image,
    Reference,
    Edit,
}

#[derive(Debug, PartialEq, Eq)]
enum Price {
    /// Credits a second, without and with audio.
    PerSecond {
        silent: i64,
        sound: i64,
    },
    Fixed(i64),
}

impl Kind {
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    pub fn credits(&self, seconds: u32, sound: bool) -> i64 {
        match self.price {
            Price::PerSecond { sound: rate, .. } if sound => rate * i64::from(seconds),
            Price::PerSecond { silent: rate, .. } => rate * i64::from(seconds),
            Price::Fixed(credits) => credits,
        }
    }
}

impl GenerationModel {
    pub fn task_prefix(self) -> &'static str {
        match self {
            Self::Kling3 => "n75",
            Self::O3 => "n71",
        }
    }
}

static KINDS: [Kind; 12] = [
    kling3("pro-text-to-video", Input::Text, 54, 80),
    kling3("pro-image-to-video", Input::Image, 54, 80),
    kling3("std-text-to-video", Input::Text, 40, 60),
    kling3("std-image-to-video", Input::Image, 40, 60),
    o3("o3-pro-text-to-video", Input::Text, 48),
    o3("o3-pro-image-to-video", Input::Image, 48),
    o3("o3-pro-reference-to-video", Input::Reference, 72),
    o3_edit("o3-pro-video-edit", 435),
    o3("o3-std-text-to-video", Input::Text, 36),
    o3("o3-std-image-to-video", Input::Image, 36),
    o3("o3-std-reference-to-video", Input::Reference, 20),
    o3_edit("o3-std-video-edit", 360),
];

const fn kling3(name: &'static str, input: Input, silent: i64, sound: i64) -> Kind {
    Kind { name, model: GenerationModel::Kling3, input, price: Price::PerSecond { silent, sound } }
}

const fn o3(name: &'static str, input: Input, rate: i64) -> Kind {
    Kind { name, model: GenerationModel::O3, input, price: Price::PerSecond { silent: rate, sound: rate } }
}

const fn o3_edit(name: &'static str, credits: i64) -> Kind {
    Kind { name, model: GenerationModel::O3, input: Input::Edit, price: Price::Fixed(credits) }
}
