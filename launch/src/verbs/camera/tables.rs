//! What calibration writes into a profile: the tables `[intrinsics]` and `[mount]`.

use std::path::Path;

use anyhow::{Context, bail};
use foresee_firmware_config::{IntrinsicsProfile, load};
use foresee_runtime::{HandEye, Mounting, write_atomically};
use toml::de::DeTable;

use super::poses::wxyz;
use crate::words::say;

/// Keys of a table and their values as TOML.
type Keys = Vec<(&'static str, String)>;

/// Puts the tables into the profile in the place of older ones; comments and `[mount] parent` stay. Frames that were
/// straightened stay so, by the new calibration alone. A profile that does not hold together with them stays as it was.
pub(super) fn write(file: &Path, lens: &IntrinsicsProfile, mount: Option<&HandEye>) -> anyhow::Result<()> {
    let name = file.display().to_string();
    let old = std::fs::read_to_string(file).with_context(|| format!("{name}: give a profile that is there"))?;
    // What the file itself states counts even where it is of another camera, and does not load with its old tables.
    let own: toml::Table = toml::from_str(&old).with_context(|| format!("{name}: not TOML"))?;
    let own = |table: &str, key: &str| own.get(table)?.get(key).cloned();
    let before = load(&name).ok();
    let inherited = before.as_ref().and_then(|profile| profile.intrinsics.as_ref());
    let undistort = own("intrinsics", "undistort").and_then(|value| value.as_bool());
    let undistort = undistort.unwrap_or_else(|| inherited.is_some_and(|before| before.straightening.is_some()));
    let mut text = with_table(&old, "intrinsics", &intrinsics(lens, undistort)).with_context(|| name.clone())?;
    let mut written = format!("[intrinsics] (undistort = {undistort})");
    if let Some(mount) = mount {
        let parent = own("mount", "parent").and_then(|value| value.as_str().map(str::to_owned));
        let parent = parent.or_else(|| before.and_then(|profile| profile.mount).map(|mount| mount.parent));
        let parent = parent_of(mount.mounting, parent);
        written += &format!(" and [mount] (parent = {parent:?})");
        text = with_table(&text, "mount", &mount_keys(mount, &parent)).with_context(|| name.clone())?;
    }
    write_atomically(file, text.as_bytes())?;
    if let Err(error) = load(&name) {
        write_atomically(file, old.as_bytes())?;
        bail!("{error}; {name} is left as it was");
    }
    say(&format!("{name}: {written} written"));
    Ok(())
}

/// The parent that the profile names, unless that is the default of the other kind of mounting.
fn parent_of(mounting: Mounting, written: Option<String>) -> String {
    let is_kept = |parent: &String| parent != mounting.board_parent();
    written.filter(is_kept).unwrap_or_else(|| mounting.parent().to_owned())
}

fn intrinsics(lens: &IntrinsicsProfile, undistort: bool) -> Keys {
    let [k1, k2, p1, p2, k3, ..] = lens.distortion;
    vec![
        ("width", lens.width.to_string()),
        ("height", lens.height.to_string()),
        ("fx_pixels", format!("{:?}", lens.fx_pixels)),
        ("fy_pixels", format!("{:?}", lens.fy_pixels)),
        ("cx_pixels", format!("{:?}", lens.cx_pixels)),
        ("cy_pixels", format!("{:?}", lens.cy_pixels)),
        ("distortion", format!("{:?}", [k1, k2, p1, p2, k3])),
        ("reprojection_error_pixels", format!("{:?}", lens.reprojection_error_pixels.unwrap_or_default())),
        ("undistort", undistort.to_string()),
    ]
}

fn mount_keys(mount: &HandEye, parent: &str) -> Keys {
    let place = mount.parent_from_camera.translation.vector;
    vec![
        ("parent", toml::Value::from(parent).to_string()),
        ("parent_from_camera_metres", format!("{:?}", [place.x, place.y, place.z])),
        ("parent_from_camera_quaternion_wxyz", format!("{:?}", wxyz(&mount.parent_from_camera))),
    ]
}

/// The text with exactly these keys in this table. Where a key stays, so do its line and the comments around it.
fn with_table(text: &str, name: &str, keys: &Keys) -> anyhow::Result<String> {
    let parsed = DeTable::parse(text).context("not TOML")?;
    let mut edits = Vec::new();
    let mut added: Keys = keys.clone();
    let mut end = None;
    if let Some((header, table)) = parsed.get_ref().iter().find(|(key, _)| key.get_ref() == name) {
        let table = table.get_ref().as_table().with_context(|| format!("{name}: is not a table"))?;
        let is_own_line = |at: usize| text[line_start(text, at)..at].trim().is_empty();
        // `[name]` begins with a bracket; `name = { .. }` and `name.key = ..` are written anew as a table.
        let is_table = text[line_start(text, header.span().start)..header.span().start].trim_start().starts_with('[')
            && table.keys().all(|key| is_own_line(key.span().start));
        end = is_table.then(|| line_end(text, header.span().end));
        for (key, value) in table {
            match keys.iter().find(|(kept, _)| kept == key.get_ref()).filter(|_| is_table) {
                Some((kept, new)) => {
                    edits.push((value.span(), new.clone()));
                    added.retain(|(key, _)| key != kept);
                    end = end.max(Some(line_end(text, value.span().end)));
                }
                None => {
                    edits.push((line_start(text, key.span().start)..line_end(text, value.span().end), String::new()));
                }
            }
        }
    }
    let added: String = added.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    edits.sort_by_key(|(span, _)| span.start);
    edits.dedup_by_key(|(span, _)| span.clone());
    match end {
        Some(end) => {
            let at = edits.partition_point(|(span, _)| span.start < end);
            let gap = if text[..end].ends_with('\n') { "" } else { "\n" };
            edits.insert(at, (end..end, format!("{gap}{added}")));
        }
        None => edits.push((text.len()..text.len(), format!("\n[{name}]\n{added}"))),
    }
    let mut written = String::new();
    let mut copied = 0;
    for (span, new) in edits {
        written.push_str(text.get(copied..span.start).unwrap_or_default());
        if new.starts_with("\n[") && !written.is_empty() && !written.ends_with('\n') {
            written.push('\n');
        }
        written.push_str(&new);
        copied = copied.max(span.end);
    }
    written.push_str(text.get(copied..).unwrap_or_default());
    Ok(written)
}

/// Where the line of this byte begins.
fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
}

/// Behind the line of this byte, with its newline.
fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|after| after.find('\n')).map_or(text.len(), |newline| at + newline + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENS: IntrinsicsProfile = IntrinsicsProfile {
        width: 640,
        height: 480,
        fx_pixels: 610.5,
        fy_pixels: 606.0,
        cx_pixels: 326.0,
        cy_pixels: 238.0,
        distortion: [0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        reprojection_error_pixels: Some(0.1),
        straightening: None,
    };
    const ARM: &str = "inherit = \"desktop-cpu\"\nrobot = \"arm\" # ours\n\n[camera]\nname = \"wrist\"\nwidth = 640\nheight = 480\nencoding = \"bgr8\"\n";

    fn written(profile: &str, mounting: Mounting) -> (String, foresee_firmware_config::DeviceProfile) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("arm.toml");
        std::fs::write(&file, profile).unwrap();
        let parent_from_camera = nalgebra::Isometry3::translation(0.04, -0.03, 0.09);
        let mount = HandEye { mounting, parent_from_camera, spread_metres: 0.0, spread_radians: 0.0 };
        write(&file, &LENS, Some(&mount)).unwrap();
        (std::fs::read_to_string(&file).unwrap(), load(&file.display().to_string()).unwrap())
    }

    #[test]
    fn tables_are_added_behind_what_is_there() {
        let (text, profile) = written(ARM, Mounting::Gripper);
        assert!(text.starts_with(ARM) && text.contains("\n\n[intrinsics]\nwidth = 640\n"), "{text}");
        let mount = profile.mount.unwrap();
        assert_eq!((mount.parent.as_str(), mount.parent_from_camera_metres), ("gripper", [0.04, -0.03, 0.09]));
        assert_eq!(profile.intrinsics.unwrap().fx_pixels, 610.5);
        assert_eq!(written(ARM, Mounting::Base).1.mount.unwrap().parent, "base");
    }

    #[test]
    fn a_table_is_found_however_its_header_is_written_and_comments_stay() {
        let headers = ["[intrinsics] # of the old lens", "[ intrinsics ]", "[\"intrinsics\"]", "  [intrinsics]\t# x"];
        for header in headers {
            let old = format!(
                "{ARM}\n# measured in May\n{header}\nwidth = 320 # wrong\nheight = 240\nfx_pixels = 300.0\n# in pixels\n\
                 fy_pixels = 300.0\ncx_pixels = 160.0\ncy_pixels = 120.0\n\n# the mount\n[mount] # by hand\nparent = \
                 \"tool0\" # flange\nparent_from_camera_metres = [0, 0, 0]\nparent_from_camera_quaternion_wxyz = [1, 0, 0, 0]\n"
            );
            let (text, profile) = written(&old, Mounting::Gripper);
            for kept in ["# measured in May", header, "# wrong", "# in pixels", "# the mount", "# by hand", "# flange"]
            {
                assert!(text.contains(kept), "{kept:?} is not in\n{text}");
            }
            assert!(text.contains("width = 640 # wrong") && !text.contains("320"), "{text}");
            assert_eq!(profile.mount.unwrap().parent, "tool0");
        }
    }

    #[test]
    fn inline_tables_and_dotted_keys_become_tables() {
        let inline = "mount = { parent = \"tool0\", parent_from_camera_metres = [0, 0, 0], parent_from_camera_quaternion_wxyz = [1, 0, 0, 0] }\n";
        let dotted = "mount.parent = \"tool0\"\nmount.parent_from_camera_metres = [0, 0, 0] # old\nmount.parent_from_camera_quaternion_wxyz = [1, 0, 0, 0]\n";
        for old in [inline, dotted] {
            let (text, profile) = written(&format!("{old}{ARM}"), Mounting::Gripper);
            assert!(text.starts_with(ARM) && text.contains("\n[mount]\nparent = \"tool0\"\n"), "{text}");
            assert_eq!(profile.mount.unwrap().parent_from_camera_metres, [0.04, -0.03, 0.09]);
        }
    }

    #[test]
    fn writing_twice_changes_nothing_and_old_keys_go() {
        let old =
            format!("{ARM}[intrinsics] # lens\nrectification = [1, 0, 0, 0, 1, 0, 0, 0, 1] # gone\nwidth = 640 # px");
        let (text, _) = written(&old, Mounting::Gripper);
        assert!(!text.contains("rectification") && text.contains("width = 640 # px\nheight = 480\n"), "{text}");
        assert_eq!(written(&text, Mounting::Gripper).0, text);
    }

    #[test]
    fn a_parent_of_the_other_kind_of_mounting_is_replaced() {
        assert_eq!(parent_of(Mounting::Base, Some("gripper".to_owned())), "base");
        assert_eq!(parent_of(Mounting::Base, Some("table".to_owned())), "table");
        assert_eq!(parent_of(Mounting::Gripper, None), "gripper");
    }
}
