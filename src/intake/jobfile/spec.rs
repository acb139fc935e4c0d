//! One job as it was asked for, typed, wherever it was written; and its way to [`NewJob`]s: defaults, the request's
//! rules, the price, the key, the takes.

use super::{Context, diagnostic::Code, rules::Flaw};
use crate::domain::{
    credits::Credits,
    job::NewJob,
    job_type::{Field, JobType},
    key::JobKey,
    request::{Draft, Problem, Request},
    time::Timestamp,
};

/// A job, or one cell of its matrix. Each value is of the right type and in its range.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub draft: Draft,
    pub name: Option<String>,
    pub output: Option<String>,
    pub tags: Vec<String>,
    pub priority: i8,
    pub takes: u32,
    pub not_before: Option<Timestamp>,
    pub key: Option<String>,
    pub max_credits: Option<Credits>,
    pub again: bool,
    /// The matrix cell, as it is appended to the job's own key.
    pub cell: Option<String>,
}

impl Spec {
    /// The jobs it stands for, one a take; or everything that is wrong, each with the key it is about.
    pub fn expand(
        mut self,
        context: &Context<'_>,
        source: &str,
    ) -> Result<Vec<NewJob>, Vec<(&'static str, Flaw)>> {
        let configured = self.fill(context.defaults);
        let request = Request::parse(&self.draft).map_err(|problems| {
            let flaw = |p: Problem| (p.field.name(), self.flaw(p, &configured));
            problems.into_iter().map(flaw).collect::<Vec<_>>()
        })?;
        let estimate = request.estimate((context.price)(request.job_type()));
        if let Some(max) = self.max_credits.filter(|max| estimate > *max) {
            let message =
                format!("one render costs {estimate} credits, more than the {max} that are allowed");
            return Err(vec![("max_credits", Flaw::new(Code::OverMaxCredits, message))]);
        }
        Ok((1..=self.takes).map(|take| self.job(&request, estimate, take, source)).collect())
    }

    /// What is wrong with the values by themselves, whichever type takes them.
    pub fn flaws(&self) -> Vec<(&'static str, Flaw)> {
        let typeless = Draft { job_type: None, ..self.draft.clone() };
        let type_alone = Draft { job_type: self.draft.job_type.clone(), ..Draft::default() };
        let problems = |draft: &Draft, about_type: bool| {
            let problems = Request::parse(draft).err().unwrap_or_default().into_iter();
            problems.filter(move |p| (p.field == Field::Type) == about_type).collect::<Vec<_>>()
        };
        let all = problems(&typeless, false).into_iter().chain(problems(&type_alone, true));
        let set = all.filter(|problem| is_set(&self.draft, problem.field));
        set.map(|problem| (problem.field.name(), self.flaw(problem, &[]))).collect()
    }

    /// Takes from the configuration what the job left open and its type takes; returns these fields.
    fn fill(&mut self, defaults: &Draft) -> Vec<Field> {
        // The type comes first: which of the others apply depends on it.
        let fields = Field::ALL.into_iter().chain([Field::Extra]);
        fields
            .filter(|field| {
                let wanted = self.job_type().is_none_or(|t| t.takes(*field));
                wanted && fill_field(&mut self.draft, defaults, *field)
            })
            .collect()
    }

    fn job_type(&self) -> Option<JobType> {
        self.draft.job_type.as_deref()?.parse().ok()
    }

    fn flaw(&self, problem: Problem, configured: &[Field]) -> Flaw {
        let Problem { field, message, hint } = problem;
        let code = match self.job_type() {
            _ if !is_set(&self.draft, field) => Code::Missing,
            Some(t) if !t.takes(field) => Code::NotTaken,
            Some(_) | None => Code::InvalidValue,
        };
        let hint = if configured.contains(&field) {
            Some(format!("it comes from `defaults.{}` of the configuration", field.name()))
        } else {
            hint
        };
        Flaw { code, message, hint }
    }

    fn job(&self, request: &Request, estimate: Credits, take: u32, source: &str) -> NewJob {
        let key = match &self.key {
            Some(own) => JobKey::own(own, self.cell.as_deref(), take),
            None => JobKey::of(request, self.name.as_deref(), take),
        };
        NewJob {
            request: request.clone(),
            name: self.name.clone(),
            output: self.output.clone(),
            tags: self.tags.clone(),
            priority: self.priority,
            take,
            not_before: self.not_before,
            key,
            again: self.again,
            max_credits: self.max_credits,
            estimate,
            source: source.to_owned(),
        }
    }
}

/// Copies `field` where it is set in `from` only, and says whether it did. The keys of `extra` count one by one.
fn fill_field(to: &mut Draft, from: &Draft, field: Field) -> bool {
    fn copy<T: Clone>(to: &mut Option<T>, from: &Option<T>) -> bool {
        let copies = to.is_none() && from.is_some();
        if copies {
            to.clone_from(from);
        }
        copies
    }
    match field {
        Field::Type => copy(&mut to.job_type, &from.job_type),
        Field::Prompt => copy(&mut to.prompt, &from.prompt),
        Field::Duration => copy(&mut to.duration, &from.duration),
        Field::AspectRatio => copy(&mut to.aspect_ratio, &from.aspect_ratio),
        Field::Image => copy(&mut to.image, &from.image),
        Field::EndImage => copy(&mut to.end_image, &from.end_image),
        Field::Video => copy(&mut to.video, &from.video),
        Field::Images => copy(&mut to.images, &from.images),
        Field::Sound => copy(&mut to.sound, &from.sound),
        Field::NegativePrompt => copy(&mut to.negative_prompt, &from.negative_prompt),
        Field::CfgScale => copy(&mut to.cfg_scale, &from.cfg_scale),
        Field::KeepOriginalSound => copy(&mut to.keep_original_sound, &from.keep_original_sound),
        Field::Extra => {
            let before = to.extra.len();
            for (key, value) in &from.extra {
                to.extra.entry(key.clone()).or_insert_with(|| value.clone());
            }
            to.extra.len() > before
        }
    }
}

fn is_set(draft: &Draft, field: Field) -> bool {
    match field {
        Field::Type => draft.job_type.is_some(),
        Field::Prompt => draft.prompt.is_some(),
        Field::Duration => draft.duration.is_some(),
        Field::AspectRatio => draft.aspect_ratio.is_some(),
        Field::Image => draft.image.is_some(),
        Field::EndImage => draft.end_image.is_some(),
        Field::Video => draft.video.is_some(),
        Field::Images => draft.images.is_some(),
        Field::Sound => draft.sound.is_some(),
        Field::NegativePrompt => draft.negative_prompt.is_some(),
        Field::CfgScale => draft.cfg_scale.is_some(),
        Field::KeepOriginalSound => draft.keep_original_sound.is_some(),
        Field::Extra => !draft.extra.is_empty(),
    }
}
