//! A file without a name, for what does not fit into memory: nobody finds it, and it is gone with its handle, however
//! the process ends.

use std::{fs::File, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
};

use super::error::DiskError;

/// Makes one in the folder `dir`, readable by its owner only.
pub fn scratch(dir: &Path) -> Result<File, DiskError> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, dir, flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        // Some filesystems (NFS, FUSE) know no nameless files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        Err(error) => return Err(DiskError::at("create a file in", dir)(error)),
    }
    let path = dir.join(format!(".scratch-{}", std::process::id()));
    let file = rustix::fs::openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)
        .map_err(DiskError::at("create", &path))?;
    rustix::fs::unlinkat(CWD, &path, AtFlags::empty()).map_err(DiskError::at("remove", &path))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn it_keeps_what_is_written_and_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = scratch(dir.path()).unwrap();
        file.write_all_at(b"abc", 5).unwrap();
        let mut read = [0; 3];
        file.read_exact_at(&mut read, 5).unwrap();
        assert_eq!(&read, b"abc");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(scratch(&dir.path().join("missing")).is_err());
    }
}
