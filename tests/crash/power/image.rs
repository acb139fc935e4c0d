//! A filesystem in a file, whose power can be cut.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::calls::shim::compile;
use crate::rig::until;

/// The filesystems whose power can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
}

/// What of the journal that is in memory still gets to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing: the power is gone.
    Nothing = 2,
    /// The journal, but not the data: names may be there without what they name.
    JournalOnly = 1,
}

/// A mounted image. It is unmounted when it is dropped, and its loop device goes with it.
pub struct Image {
    kind: Kind,
    mounted: PathBuf,
    /// The image and its mount point.
    _place: TempDir,
    file: PathBuf,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Ext4, Kind::Xfs];

    fn make(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Kind::Ext4 => ("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"]),
            Kind::Xfs => ("mkfs.xfs", &["-q", "-f"]),
        }
    }

    /// XFS is not made smaller. Nearly all of it is a hole.
    fn bytes(self) -> u64 {
        match self {
            Kind::Ext4 => 96 << 20,
            Kind::Xfs => 320 << 20,
        }
    }

    /// Why there can be no such image here, if so.
    pub fn lacks(self) -> Option<String> {
        if !geteuid().is_root() {
            return Some(format!("{self:?}: only root can mount an image"));
        }
        let missing = || match self {
            Kind::Ext4 => "apt-get install e2fsprogs",
            Kind::Xfs => "apt-get install xfsprogs",
        };
        let tried = Image::try_new(self);
        tried
            .err()
            .map(|why| format!("{self:?}: no image can be made and mounted here ({why}; {})", missing()))
    }
}

impl Image {
    pub fn new(kind: Kind) -> Self {
        Self::try_new(kind).unwrap()
    }

    fn try_new(kind: Kind) -> Result<Self, String> {
        // In memory where that is possible: what counts is what the filesystem lets through to its disk, not what that is.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let (file, mounted) = (place.path().join("image"), place.path().join("mounted"));
        File::create_new(&file).unwrap().set_len(kind.bytes()).unwrap();
        fs::create_dir(&mounted).unwrap();
        let (make, arguments) = kind.make();
        run(Command::new(make).args(arguments).arg(&file))?;
        let image = Image { kind, mounted, _place: place, file };
        image.mount()?;
        Ok(image)
    }

    fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop", "-t", if self.kind == Kind::Ext4 { "ext4" } else { "xfs" }]);
        run(mount.arg(&self.file).arg(&self.mounted)).map(drop)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Cuts its power. What is on it can't be written any more.
    pub fn cut(&self, cut: Cut) {
        let how = (cut as i32).to_string();
        run(Command::new(cutter()).arg(&self.mounted).arg(how)).unwrap();
    }

    /// Power again: its journal is replayed. Nobody may use it.
    pub async fn comes_back(&self) {
        // A database that was dropped is closed by another thread, a moment later.
        until("the image is unmounted", async || run(Command::new("umount").arg(&self.mounted)).is_ok())
            .await;
        self.mount().unwrap();
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        /// Whoever still closes a file on it needs some of these.
        const TRIES: usize = 200;
        let unmount = |lazily: bool| {
            let mut umount = Command::new("umount");
            umount.args(lazily.then_some("-l")).arg(&self.mounted);
            run(&mut umount).is_ok()
        };
        if !(0..TRIES).any(|_| unmount(false)) {
            unmount(true);
        }
    }
}

fn cutter() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| compile("tests/crash/power/cut.c", "klingd-cut", &[])).clone()
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(output) } else { Err(said.trim().to_owned()) }
}
