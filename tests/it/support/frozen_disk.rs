//! A disk that hangs, for real: a file system of its own, in a file.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of 512 MiB, mounted in a folder. Unmounted when dropped.
pub(crate) struct Disk(PathBuf);

/// Has the disk go on when dropped: whoever writes to it cannot even be killed before.
pub(crate) struct Frozen<'a>(&'a Path);

impl Disk {
    /// One below `dir`; `None` where none may be mounted.
    pub(crate) fn mount(dir: &Path) -> Option<Self> {
        let (image, at) = (dir.join("disk.img"), dir.join("disk"));
        std::fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        std::fs::create_dir(&at).unwrap();
        let is_mounted = succeeds(Command::new("mkfs.ext4").arg("-q").arg(&image))
            && succeeds(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at));
        is_mounted.then(|| Self(at))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whoever writes to it waits from now on. Reads go on.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        assert!(succeeds(Command::new("fsfreeze").arg("--freeze").arg(&self.0)));
        Frozen(&self.0)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        assert!(succeeds(Command::new("fsfreeze").arg("--unfreeze").arg(self.0)) || std::thread::panicking());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        succeeds(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
