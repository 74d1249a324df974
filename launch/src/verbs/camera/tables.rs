//! What calibration writes into a profile: the tables `[intrinsics]` and `[mount]`.

use std::path::Path;

use anyhow::{Context, bail};
use foresee_firmware_config::{IntrinsicsProfile, load};
use foresee_runtime::{HandEye, write_atomically};

use super::poses::wxyz;
use crate::words::say;

/// Puts the tables into the profile in the place of older ones; frames that were straightened stay so, by the new calibration alone. A profile that does not hold together with them stays as it was.
pub(super) fn write(file: &Path, lens: &IntrinsicsProfile, mount: Option<&HandEye>) -> anyhow::Result<()> {
    let old =
        std::fs::read_to_string(file).with_context(|| format!("{}: give a profile that is there", file.display()))?;
    let before = load(&file.display().to_string()).ok().and_then(|profile| profile.intrinsics);
    let undistort = before.is_some_and(|before| before.straightening.is_some());
    let [k1, k2, p1, p2, k3, ..] = lens.distortion;
    let table = format!(
        "[intrinsics]\nwidth = {}\nheight = {}\nfx_pixels = {:?}\nfy_pixels = {:?}\ncx_pixels = {:?}\ncy_pixels = {:?}\ndistortion = [{k1:?}, {k2:?}, {p1:?}, {p2:?}, {k3:?}]\nreprojection_error_pixels = {:?}\nundistort = {undistort}\n",
        lens.width,
        lens.height,
        lens.fx_pixels,
        lens.fy_pixels,
        lens.cx_pixels,
        lens.cy_pixels,
        lens.reprojection_error_pixels.unwrap_or_default(),
    );
    let mut text = with_table(&old, "intrinsics", &table);
    if let Some(mount) = mount {
        let place = mount.gripper_from_camera.translation.vector;
        let table = format!(
            "[mount]\nparent = \"gripper\"\nparent_from_camera_metres = [{:?}, {:?}, {:?}]\nparent_from_camera_quaternion_wxyz = {:?}\n",
            place.x,
            place.y,
            place.z,
            wxyz(&mount.gripper_from_camera)
        );
        text = with_table(&text, "mount", &table);
    }
    write_atomically(file, text.as_bytes())?;
    if let Err(error) = load(&file.display().to_string()) {
        write_atomically(file, old.as_bytes())?;
        bail!("{error}; {} is left as it was", file.display());
    }
    say(&format!(
        "{}: [intrinsics]{} written; undistort = {undistort}",
        file.display(),
        if mount.is_some() { " and [mount]" } else { "" }
    ));
    Ok(())
}

/// The text with this table in the place of the one of that name, or at its end.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let header = format!("[{name}]");
    let lines: Vec<&str> = text.lines().collect();
    let Some(first) = lines.iter().position(|line| line.trim() == header) else {
        return format!("{}\n\n{table}", text.trim_end());
    };
    let rest = lines.iter().skip(first + 1);
    let next =
        rest.clone().position(|line| line.trim_start().starts_with('[')).map_or(lines.len(), |idx| first + 1 + idx);
    // Blank lines and comments before the next table are the next table's.
    let is_own = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let last = (first..next).rev().find(|idx| lines.get(*idx).is_some_and(is_own)).unwrap_or(first);
    let before = lines.iter().take(first).copied();
    let after = lines.iter().skip(last + 1).copied();
    let mut written: Vec<&str> = before.chain([table.trim_end()]).chain(after).collect();
    written.push("");
    written.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_old_one_and_leaves_the_rest() {
        let old = "robot = \"a\"\n\n[mount]\nparent = \"x\" # old\n\n# the pace\n[pace]\nkind = \"fixed\"\n";
        let new = with_table(old, "mount", "[mount]\nparent = \"gripper\"\n");
        assert_eq!(new, "robot = \"a\"\n\n[mount]\nparent = \"gripper\"\n\n# the pace\n[pace]\nkind = \"fixed\"\n");
        let added = with_table(old, "intrinsics", "[intrinsics]\nwidth = 1\n");
        assert_eq!(added, format!("{old}\n[intrinsics]\nwidth = 1\n"));
        assert_eq!(
            with_table(&added, "intrinsics", "[intrinsics]\nwidth = 2\n"),
            added.replace("width = 1", "width = 2")
        );
    }
}
