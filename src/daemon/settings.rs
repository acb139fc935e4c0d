//! From the checked configuration to what each part of the daemon is given: no part knows the whole.

use std::sync::Arc;

use crate::{
    config::{self, ApiKey, Config},
    disk::{Template, TemplateError},
    domain::{
        Credits,
        gate::GatePolicy,
        plan::{download::DownloadPolicy, poll::PollPolicy},
    },
    intake::inbox::{self, folder::Places, judge::Rules},
    provider::{MediaSettings, Settings},
    store::{budget::Budget, submit::ClaimPolicy},
    worker::{download::OutputSettings, hook::Hook, poll::PollSettings, room::RoomSettings},
};

/// The two calls' part of the configuration.
pub fn api_settings(config: &Config, key: &ApiKey) -> Settings {
    Settings {
        base_url: config.api.base_url.clone(),
        key: key.expose().into(),
        connect_timeout: config.api.connect_timeout,
        submit_timeout: config.api.submit_timeout,
        status_timeout: config.api.status_timeout,
        proxy: config.api.proxy.as_ref().map(|p| p.expose().clone()),
    }
}

pub(super) fn media_settings(config: &Config) -> MediaSettings {
    MediaSettings {
        connect_timeout: config.api.connect_timeout,
        idle_timeout: config.download.idle_timeout,
        max_bytes: config.download.max_bytes,
        allow_private: config.download.allow_private,
        proxy: config.api.proxy.as_ref().map(|p| p.expose().clone()),
    }
}

pub(super) fn poll_settings(config: &Config, key: &ApiKey) -> PollSettings {
    PollSettings {
        policy: poll_policy(config),
        downloads: download_policy(config),
        max_per_second: config.poll.max_per_second,
        key_fingerprint: key.fingerprint(),
    }
}

pub(super) fn poll_policy(config: &Config) -> PollPolicy {
    PollPolicy {
        first: config.poll.first,
        every: config.poll.every,
        slowest: config.poll.slowest,
        confirm_failed: config.poll.confirm_failed,
    }
}

pub(super) fn download_policy(config: &Config) -> DownloadPolicy {
    DownloadPolicy { retry_base: config.download.retry_base, give_up: config.download.give_up }
}

/// Where videos go, and what may have been fetched of them so far.
///
/// # Errors
/// The template's mistake, with its column.
pub fn output_settings(config: &Config) -> Result<OutputSettings, TemplateError> {
    Ok(OutputSettings {
        root: config.videos_root().to_owned(),
        staging: config.staging_dir(),
        template: Template::parse(&config.output.template)?,
        sidecar: config.output.sidecar,
        verify: config.output.verify,
    })
}

pub(super) fn room_settings(config: &Config) -> RoomSettings {
    RoomSettings {
        output_root: config.videos_root().to_owned(),
        staging: config.staging_dir(),
        min_free_bytes: config.output.min_free_bytes,
    }
}

/// The gate's and the budget's part of the configuration.
pub fn claim_policy(config: &Config, key_fingerprint: &str) -> ClaimPolicy {
    let cap = |c: Option<Credits>| c.unwrap_or(Credits::ZERO);
    ClaimPolicy {
        gate: gate_policy(config),
        budget: Budget {
            per_job: cap(config.budget.per_job),
            per_day: cap(config.budget.per_day),
            total: cap(config.budget.total),
        },
        base_url: config.api.base_url.as_str().trim_end_matches('/').to_owned(),
        key_fingerprint: key_fingerprint.to_owned(),
    }
}

pub(super) fn gate_policy(config: &Config) -> GatePolicy {
    GatePolicy {
        start_in_flight: config.submit.start_in_flight,
        max_in_flight: config.submit.max_in_flight,
        cooldown: config.submit.cooldown,
        cooldown_max: config.submit.cooldown_max,
    }
}

pub(super) fn hooks(config: &Config) -> Vec<Arc<Hook>> {
    let hook = |hook: &config::Hook| Hook {
        name: hook.name.clone(),
        program: hook.program.clone(),
        arguments: hook.arguments.clone(),
        timeout: hook.timeout,
    };
    config.hooks.iter().map(|h| Arc::new(hook(h))).collect()
}

pub(super) fn inbox_settings(config: &Config) -> inbox::Settings {
    let prices = config.prices.clone();
    inbox::Settings {
        places: Places {
            inbox: config.inbox.path.clone(),
            accepted: config.inbox.accepted.clone(),
            rejected: config.inbox.rejected.clone(),
            data_dir: config.data_dir.clone(),
        },
        settle: config.inbox.settle,
        scan_every: config.inbox.scan_every,
        rules: Rules {
            defaults: config.defaults.clone(),
            price: Box::new(move |job_type| prices.of(job_type)),
            max_jobs: config.inbox.max_jobs_per_file,
            max_credits: config.inbox.max_credits_per_file,
        },
    }
}
