"""The program that runs in Blender: renders one video from a job file. Not imported by anything of ours.

::

    <renderer's python> inside.py JOB.json         with the `bpy` wheel
    blender -b --python inside.py -- JOB.json      with an installed Blender that has blenderproc in its Python

It, `inside_start.py` and `inside_models.py` use the standard library, numpy, bpy and blenderproc only. One scene load
per video; everything is keyed once, then all masks are rendered, then all pictures. A file appears under its name only
when complete, and what is there already is not rendered again. Events go to stdout as JSON lines; whatever Blender
prints goes to stderr. When stdin ends, the parent is gone and this process ends, too.

As published: Cycles, Filmic view, JPEG quality 98, 3 bounces, a glowing square as sky, world grey beyond it, masks
from a render of their own with one sample at each pixel centre. Here: the denoiser is the one inside Cycles, not a
compositor node (half the time), and the world's light is not importance sampled (it is one grey).
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.polynomial import polynomial

MASK_CHUNK, MASK_PIXELS = 32, 2**24  # frames and pixels at once: label maps come back as int64 arrays
DISK_FULL = 28

if TYPE_CHECKING:
    from blender import inside_models as models
    from blender import inside_start as starter


def tell(event: str, **values: Any) -> None:
    """Send one event to the parent."""
    line = json.dumps({"event": event, **values}) + "\n"
    os.write(CHANNEL, line.encode())


def private_stdout() -> int:
    """Keep the real stdout for events and let everything else that is printed, C code too, go to stderr."""
    sys.stdout.flush()
    channel = os.dup(1)
    os.dup2(2, 1)
    return channel


def watch_parent() -> None:
    """End this process when stdin ends."""

    def wait() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


def load_beside(name: str) -> Any:
    """A module beside this file, which is no package in Blender's Python."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Chooser:
    """Files by name, and what to take in place of those that fail."""

    def __init__(self, job: dict[str, Any], scene: dict[str, Any]) -> None:
        self.files, self.skip = job["files"], job["skip"]
        self.spares = {
            kind: [name for name in names if name in self.files[kind]] for kind, names in scene["spares"].items()
        }

    def use(self, kind: str, name: str, what: int, load: Callable[[str, str], Any]) -> tuple[str, Any]:
        """Load `name` or the first spare that works; says so when it is another. Returns (name, loaded)."""
        wanted, failed = name, ""
        while True:
            tell("loading", kind=kind, name=name)
            try:
                if name in self.skip:
                    raise models.BadAssetError(self.skip[name])
                loaded = load(name, self.files[kind][name])
                break
            except models.BadAssetError as error:
                tell("bad", kind=kind, name=name, why=str(error))
                failed = str(error)
            if not self.spares.get(kind):
                raise RuntimeError(f"{wanted}: {failed}, and none of the {kind} to take instead can be used either")
            name = self.spares[kind].pop(0)
        if name != wanted:
            self.spares[kind].append(name)  # it works, so it may be taken again when the others have been
        tell("using", kind=kind, object=what, name=name, wanted=wanted)
        return name, loaded


def build(bproc: Any, job: dict[str, Any], scene: dict[str, Any]) -> None:
    """Make the scene and key every frame."""
    chooser = Chooser(job, scene)
    times = np.arange(scene["frames"]) / max(scene["frames"] - 1, 1)

    def path(coefficients: Any) -> np.ndarray:
        return polynomial.polyval(times, np.array(coefficients)).T

    for entry in scene["objects"]:
        number = entry["id"]
        _, item = chooser.use("meshes", entry["model"], number, lambda name, file: models.load_mesh(bproc, name, file))
        if entry["keep_own"] and models.has_own_picture(item):
            models.make_opaque(item)
            tell("using", kind="textures", object=number, name=None, wanted=None)
        else:
            name, image = chooser.use("textures", entry["texture"], number, lambda name, file: models.load_image(file))
            models.cover(bproc, item, image, f"cover {number}")
        item.set_name(f"object {number}")
        item.set_cp("category_id", number)
        location, rotation, scale = (path(entry[key]) for key in ("location", "rotation", "scale"))
        item.blender_obj.rotation_mode = "XYZ"
        for i in range(len(times)):
            item.set_location(location[i], frame=i)
            item.set_rotation_euler(rotation[i], frame=i)
            item.set_scale(scale[i], frame=i)
    for entry in scene["lights"]:
        light = bproc.types.Light("POINT")
        light.set_energy(entry["energy"])
        light.set_color(entry["color"])
        light.set_location(entry["location"])
    sky = scene["sky"]
    _, image = chooser.use("skies", sky["image"], 0, lambda name, file: models.load_image(file))
    plane = bproc.object.create_primitive("PLANE", size=sky["size"], location=sky["location"], rotation=sky["rotation"])
    plane.set_name("skybox")
    plane.set_cp("category_id", 0)
    plane.add_material(glowing(bproc, image, sky["strength"]))

    camera, (width, height) = scene["camera"], scene["size"]
    bproc.camera.set_intrinsics_from_blender_params(
        lens=camera["fov"], image_width=width, image_height=height, clip_start=0.1, clip_end=1000.0, lens_unit="FOV"
    )
    eye, target = path(camera["location"]), path(camera["look_at"])
    for i in range(len(times)):
        turn = bproc.camera.rotation_from_forward_vec(target[i] - eye[i])
        bproc.camera.add_camera_pose(bproc.math.build_transformation_mat(eye[i], turn), frame=i)

    world = bpy.context.scene.world
    world.cycles.sampling_method, world.cycles.sample_map_resolution = "MANUAL", 256


def glowing(bproc: Any, image: Any, strength: float) -> Any:
    """A material that shines with the colours of an image."""
    material = bproc.material.create("sky")
    for node in list(material.nodes):
        material.nodes.remove(node)
    picture = material.nodes.new("ShaderNodeTexImage")
    picture.image = image
    light = material.nodes.new("ShaderNodeEmission")
    light.inputs["Strength"].default_value = strength
    out = material.nodes.new("ShaderNodeOutputMaterial")
    material.links.new(picture.outputs["Color"], light.inputs["Color"])
    material.links.new(light.outputs["Emission"], out.inputs["Surface"])
    return material


def picture_settings(bproc: Any, samples: int, threads: int) -> None:
    """How pictures are rendered; masks have settings of their own."""
    renderer = bproc.renderer
    renderer.set_cpu_threads(threads)
    renderer.set_max_amount_of_samples(samples)
    renderer.set_noise_threshold(0)
    renderer.set_light_bounces(3, 0, 3, 3, 0, 8, 0)
    renderer.set_output_format("JPEG", jpg_quality=98)
    renderer.set_denoiser(None)
    scene = bpy.context.scene
    scene.render.use_persistent_data = True
    scene.render.use_compositing = False
    cycles = scene.cycles
    cycles.filter_width = 1.5
    bpy.context.view_layer.cycles.use_denoising = True  # the call above has switched it off
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.denoising_input_passes, cycles.denoising_prefilter = "RGB_ALBEDO", "FAST"
    cycles.denoising_quality = "BALANCED"


def chunks(frames: list[int], size: int) -> list[list[int]]:
    """Split ascending frame numbers into (first, end) runs of at most `size`."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and runs[-1][1] == frame and frame - runs[-1][0] < size:
            runs[-1][1] = frame + 1
        else:
            runs.append([frame, frame + 1])
    return runs


def missing(folder: str, suffix: str, frames: int) -> list[int]:
    """The frames whose file is not there."""
    return [i for i in range(frames) if not os.path.exists(os.path.join(folder, f"{i:05d}{suffix}"))]


def render_masks(bproc: Any, job: dict[str, Any], frames: int) -> None:
    """Palette PNGs of object ids."""
    # Data that Cycles keeps from the masks would spoil the first run of pictures: they come out without smooth edges.
    from blenderproc.python.renderer import RendererUtility
    from PIL import Image

    RendererUtility.render_init = lambda: None
    settings = bpy.context.scene.render
    settings.use_persistent_data = False
    size = max(1, min(MASK_CHUNK, MASK_PIXELS // (settings.resolution_x * settings.resolution_y)))
    for first, end in chunks(missing(job["masks"], ".png", frames), size):
        bproc.utility.set_keyframe_render_interval(frame_start=first, frame_end=end)
        labels = bproc.renderer.render_segmap(map_by="cp_category_id", default_values={"cp_category_id": 0})
        for i, values in zip(range(first, end), labels["cp_category_id_segmaps"], strict=True):
            image = Image.fromarray(np.asarray(values).astype(np.uint8))
            image.putpalette(job["palette"])
            partial = os.path.join(job["work"], f"{i:05d}.png")
            image.save(partial)
            os.replace(partial, os.path.join(job["masks"], f"{i:05d}.png"))
            for leftover in (f"seg_{i:04d}.exr", f"segmap_{i:04d}.npy"):
                os.remove(os.path.join(job["work"], leftover))
        tell("masks", first=first, end=end)


def render_pictures(bproc: Any, job: dict[str, Any], frames: int) -> None:
    """JPEGs, each moved to its place as soon as it is written."""
    picture_settings(bproc, job["samples"], job["threads"])
    failures: list[OSError] = []

    @bpy.app.handlers.persistent
    def written(scene: Any, *_: Any) -> None:
        i = scene.frame_current
        partial = os.path.join(job["work"], f"picture_{i:04d}.jpg")
        try:
            os.replace(partial, os.path.join(job["images"], f"{i:05d}.jpg"))
        except OSError as error:
            failures.append(error)
            return
        tell("frame", frame=i)

    bpy.app.handlers.render_write.append(written)
    for first, end in chunks(missing(job["images"], ".jpg", frames), frames):
        bproc.utility.set_keyframe_render_interval(frame_start=first, frame_end=end)
        bproc.renderer.render(
            output_dir=job["work"], file_prefix="picture_", output_key=None, return_data=False, verbose=True
        )
        if failures:  # what a handler raises is only printed
            raise failures[0]


def main(job_path: str) -> None:
    """Render one job."""
    began = time.monotonic()
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    with open(job["scene"], encoding="utf-8") as file:
        scene = json.load(file)
    bproc = starter.start_blenderproc(job["work"])
    tell("started", seconds=time.monotonic() - began)
    build(bproc, job, scene)
    bproc.renderer.set_cpu_threads(job["threads"])
    tell("built", seconds=time.monotonic() - began)
    render_masks(bproc, job, scene["frames"])
    render_pictures(bproc, job, scene["frames"])
    tell("done", seconds=time.monotonic() - began)


def leave(code: int) -> None:
    """A normal exit of the wheel's interpreter ends in a segmentation fault."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    CHANNEL = private_stdout()
    watch_parent()
    # Our modules are not for Blender's Python, and some have names that its packages might look for.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    try:
        import bpy  # before blenderproc and before anything that looks for Blender's own modules

        starter, models = load_beside("inside_start"), load_beside("inside_models")
        main(sys.argv[-1])
    except BaseException as error:
        traceback.print_exc()
        name = "" if type(error) is RuntimeError else f"{type(error).__name__}: "
        tell("error", why=f"{name}{error}", full=getattr(error, "errno", None) == DISK_FULL)
        leave(1)
    leave(0)
