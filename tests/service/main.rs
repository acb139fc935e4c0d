//! klingd as a service: the real binary, and beside it faithful stand-ins of those who look after it: the service manager's
//! datagram socket, a reader of its log, a scraper of its metrics. The provider is the double, over real sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod endpoint;
mod log;
mod reload;
mod rig;
mod watchdog;
