import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import augment

IMAGES = jax.random.uniform(jax.random.key(0), (2, 12, 12, 3))
COUNTS = {
  "identity": 1,
  "flip": 1,
  "five_crops": 5,
  "ten_crops": 10,
  "scales": 3,
  "shifts": 5,
}


@pytest.mark.parametrize("names", [*COUNTS, "identity, flip,scales"])
@pytest.mark.parametrize("size", [8, 12])
def test_views_have_the_input_size_of_the_network(names, size):
  views = augment.make_views(names, size)(IMAGES)
  count = sum(COUNTS[name.strip()] for name in names.split(","))
  assert views.shape == (count, 2, size, size, 3)


def test_every_view_is_tested():
  assert COUNTS.keys() == augment.VIEWS.keys()


def test_identity_is_the_central_crop_and_flip_its_mirror_image():
  identity, flip = augment.make_views(["identity", "flip"], 8)(IMAGES)
  np.testing.assert_array_equal(identity, IMAGES[:, 2:10, 2:10])
  np.testing.assert_array_equal(flip, identity[:, :, ::-1])


def test_five_crops_are_the_corners_and_the_centre():
  views = augment.make_views("five_crops", 8)(IMAGES)
  places = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
  for view, (top, left) in zip(views, places, strict=True):
    np.testing.assert_array_equal(
      view, IMAGES[:, top : top + 8, left : left + 8]
    )


def test_five_crops_differ_when_the_stored_image_has_the_input_size():
  views = augment.make_views("five_crops", 12)(IMAGES)
  assert len({np.asarray(view).tobytes() for view in views}) == 5


def test_ten_crops_add_the_crops_of_the_mirror_image():
  views = augment.make_views("ten_crops", 8)(IMAGES)
  five = augment.make_views("five_crops", 8)
  np.testing.assert_array_equal(views[:5], five(IMAGES))
  np.testing.assert_array_equal(views[5:], five(IMAGES[:, :, ::-1]))


def test_views_of_images_that_are_not_square():
  images = jax.random.uniform(jax.random.key(1), (2, 12, 20, 3))
  five = augment.make_views("five_crops", 8)(images)
  np.testing.assert_array_equal(five, augment.five_crops(images, 8))
  np.testing.assert_array_equal(five[3], images[:, 4:, 12:])
  # 7/8 of the shorter side is 10 pixels.
  expected = augment.resize(images[:, 2:, 10:], 12)
  for turn in (lambda x: x, lambda x: x.swapaxes(-3, -2)):
    five = augment.make_views("five_crops", 12)(turn(images))
    np.testing.assert_allclose(five[3], turn(expected), atol=1e-5)
  whole, zoom, _ = augment.make_views("scales", 8)(images)
  np.testing.assert_allclose(whole, augment.resize(images, 8), atol=1e-5)
  expected = augment.resize(images[:, 1:11, 1:19], 8)
  np.testing.assert_allclose(zoom, expected, atol=1e-5)


def test_views_on_a_mesh_with_explicit_axes():
  kinds = (jax.sharding.AxisType.Explicit,)
  mesh = jax.make_mesh((2,), ("data",), axis_types=kinds)
  over = jax.NamedSharding(mesh, jax.P("data"))
  views = augment.make_views("identity,ten_crops", 8)
  sharded = views(jax.device_put(IMAGES, over))
  np.testing.assert_array_equal(sharded, views(IMAGES))
  assert "data" in jax.typeof(sharded).sharding.spec


def test_the_widest_scale_is_the_whole_image():
  views = augment.make_views("scales", 12)(IMAGES)
  np.testing.assert_allclose(views[0], IMAGES, atol=1e-6)
  whole = augment.make_views("scales", 8)(IMAGES)[0]
  expected = jax.image.resize(IMAGES, (2, 8, 8, 3), "bilinear")
  np.testing.assert_allclose(whole, expected, atol=1e-5)


def test_shifts_move_the_middle_by_a_sixteenth_of_its_side():
  images = jax.random.uniform(jax.random.key(2), (2, 40, 36, 3))
  shifts = augment.make_views("shifts", 32)(images)
  places = [(4, 2), (2, 2), (6, 2), (4, 0), (4, 4)]
  for view, (top, left) in zip(shifts, places, strict=True):
    np.testing.assert_array_equal(
      view, images[:, top : top + 32, left : left + 32]
    )


def test_shifts_beyond_the_stored_image_show_its_mirror_image():
  middle, down, _, right, _ = augment.make_views("shifts", 12)(IMAGES)
  np.testing.assert_array_equal(middle, IMAGES)
  np.testing.assert_array_equal(down[:, 1:], IMAGES[:, :-1])
  np.testing.assert_array_equal(down[:, 0], IMAGES[:, 1])
  np.testing.assert_array_equal(right[:, :, 1:], IMAGES[:, :, :-1])
  np.testing.assert_array_equal(right[:, :, 0], IMAGES[:, :, 1])


@pytest.mark.parametrize("names", ["", [], "mirror", "flip,flip"])
def test_unknown_and_repeated_names_raise(names):
  with pytest.raises(ValueError, match="views must be"):
    augment.make_views(names, 8)


def test_images_smaller_than_the_input_size_raise():
  with pytest.raises(ValueError, match="does not fit"):
    augment.make_views("identity", 16)(jnp.zeros((1, 12, 12, 3)))
  with pytest.raises(ValueError, match="does not fit"):
    augment.make_views("shifts", 13)(jnp.zeros((1, 12, 12, 3)))
