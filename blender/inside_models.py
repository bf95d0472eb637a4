"""Meshes and materials in Blender. Loaded by `blender.inside` in the renderer's process, by nothing of ours.

Every mesh is brought to a bounding box of diagonal 1 about the origin, and all its parts move together. Materials
are opaque: masks know no glass. As published, a mesh with fewer than 1000 faces is unwrapped by smart projection,
others by a cylinder.
"""

from __future__ import annotations

import math
from typing import Any

import bpy
import numpy as np

BUILTIN = "builtin:"
FLAT = 1e-9  # a surface this small, beside the squared diagonal of its box, is a line


class BadAssetError(Exception):
    """A file cannot be used; another one is taken."""


def load_mesh(bproc: Any, name: str, path: str) -> Any:
    """One object from a mesh file or a builtin name, its box centred and of diagonal 1.

    Raises:
        BadAssetError: not readable, without faces, or degenerate.
    """
    before = set(bpy.data.objects)
    try:
        if path.startswith(BUILTIN):
            primitive(path[len(BUILTIN) :])
        elif path.lower().endswith(".obj"):
            bproc.loader.load_obj(path)
        else:
            bpy.ops.import_scene.gltf(filepath=path)
    except Exception as error:
        for item in set(bpy.data.objects) - before:
            bpy.data.objects.remove(item)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadAssetError(f"cannot be read ({lines[-1][:200]})") from error
    loaded = [item for item in bpy.data.objects if item not in before]
    # Parents, modifiers and armatures are applied; what was imported goes away.
    graph = bpy.context.evaluated_depsgraph_get()
    meshes = []
    for item in sorted((item for item in loaded if item.type == "MESH"), key=lambda item: item.name):
        evaluated = item.evaluated_get(graph)
        mesh = bpy.data.meshes.new_from_object(evaluated)
        mesh.transform(evaluated.matrix_world)
        if evaluated.matrix_world.determinant() < 0:
            mesh.flip_normals()
        if len(mesh.polygons):
            meshes.append(mesh)
    for item in loaded:
        bpy.data.objects.remove(item)
    if not meshes:
        raise BadAssetError("has no faces")
    parts = []
    for mesh in meshes:
        item = bpy.data.objects.new(name, mesh)
        bpy.context.scene.collection.objects.link(item)
        parts.append(bproc.types.MeshObject(item))
    whole, *others = parts
    if others:
        whole.join_with_other_objects(others)
    mesh = whole.blender_obj.data
    points = np.empty((len(mesh.vertices), 3), dtype=np.float32)
    mesh.vertices.foreach_get("co", points.reshape(-1))
    used = np.empty(len(mesh.loops), dtype=np.int64)
    mesh.loops.foreach_get("vertex_index", used)
    corners = points[used]  # vertices without a face are invisible and count for nothing
    low, high = corners.min(0), corners.max(0)
    diagonal = np.linalg.norm(high - low)
    area = sum(face.area for face in mesh.polygons)
    if not np.isfinite(diagonal) or diagonal <= 0 or area < FLAT * diagonal**2:
        whole.delete()
        raise BadAssetError("has no extent" if np.isfinite(diagonal) else "has coordinates that are no numbers")
    mesh.vertices.foreach_set("co", ((points - (low + high) / 2) / diagonal).ravel())
    mesh.update()
    return whole


def primitive(name: str) -> None:
    """Add one of Blender's own shapes, or a lump: a ball with low waves over it."""
    add = bpy.ops.mesh
    makers = {
        "cube": lambda: add.primitive_cube_add(),
        "sphere": lambda: add.primitive_uv_sphere_add(segments=48, ring_count=24),
        "icosphere": lambda: add.primitive_ico_sphere_add(subdivisions=1),
        "cone": lambda: add.primitive_cone_add(vertices=48),
        "cylinder": lambda: add.primitive_cylinder_add(vertices=48),
        "torus": lambda: add.primitive_torus_add(minor_radius=0.4),
        "ring": lambda: add.primitive_torus_add(minor_radius=0.12),
        "monkey": lambda: add.primitive_monkey_add(),
        "pyramid": lambda: add.primitive_cone_add(vertices=4),
        "tetrahedron": lambda: add.primitive_cone_add(vertices=3),
        "prism": lambda: add.primitive_cylinder_add(vertices=6, depth=1.2),
        "capsule": lambda: add.primitive_uv_sphere_add(segments=48, ring_count=24),
    }
    if name in makers:
        makers[name]()
        item = bpy.context.object
        if name == "capsule":
            for vertex in item.data.vertices:
                vertex.co.z += math.copysign(0.9, vertex.co.z) if abs(vertex.co.z) > 1e-6 else 0.0
    elif name.startswith("lump"):
        add.primitive_ico_sphere_add(subdivisions=4)
        item = bpy.context.object
        rng = np.random.default_rng([31, int(name[4:])])
        waves, phases = rng.normal(0.0, 2.0, (6, 3)), rng.uniform(0, 2 * np.pi, 6)
        stretch = rng.uniform(0.5, 1.3, 3)
        points = np.array([vertex.co[:] for vertex in item.data.vertices])
        points *= 1.0 + 0.12 * np.sin(points @ waves.T + phases).sum(1, keepdims=True)
        item.data.vertices.foreach_set("co", (points * stretch).ravel())
    else:
        raise BadAssetError(f"there is no builtin {name}")
    if name in ("sphere", "torus", "ring", "capsule", "monkey") or name.startswith("lump"):
        for face in item.data.polygons:
            face.use_smooth = True
    item.data.update()


def load_image(path: str) -> Any:
    """An image that really has pixels.

    Raises:
        BadAssetError: it cannot be read.
    """
    try:
        image = bpy.data.images.load(path, check_existing=True)
    except RuntimeError as error:
        raise BadAssetError("cannot be read") from error
    if not image.size[0] or not image.size[1] or not len(image.pixels):
        raise BadAssetError("is no image")
    return image


def has_own_picture(item: Any) -> bool:
    """Whether every material is a plain principled one and at least one takes its colour from an image."""
    pictures = 0
    for slot in item.blender_obj.material_slots:
        tree = slot.material.node_tree if slot.material else None
        shaders = [node for node in tree.nodes if node.type == "BSDF_PRINCIPLED"] if tree else []
        if len(shaders) != 1:
            return False
        links = shaders[0].inputs["Base Color"].links
        seen: list[Any] = []
        while links and links[0].from_node not in seen:
            node = links[0].from_node
            seen.append(node)
            if node.type == "TEX_IMAGE":
                pictures += node.image is not None and bool(node.image.size[0])
                break
            links = next((socket.links for socket in node.inputs if socket.links), ())
    return pictures > 0


def make_opaque(item: Any) -> None:
    """No holes and no glass: the mask of an object is its outline."""
    for slot in item.blender_obj.material_slots:
        tree = slot.material.node_tree
        (shader,) = (node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
        for socket, value in (("Alpha", 1.0), ("Transmission Weight", 0.0)):
            for link in list(shader.inputs[socket].links):
                tree.links.remove(link)
            shader.inputs[socket].default_value = value


def cover(bproc: Any, item: Any, image: Any, name: str) -> None:
    """Unwrap anew and cover with one image."""
    mesh = item.blender_obj.data
    while mesh.uv_layers:
        mesh.uv_layers.remove(mesh.uv_layers[0])
    mesh.uv_layers.new(name="UVMap")
    item.add_uv_mapping("smart" if len(mesh.polygons) < 1000 else "cylinder", overwrite=True)
    item.clear_materials()
    material = bproc.material.create(name)
    material.set_principled_shader_value("Base Color", image)
    item.add_material(material)
