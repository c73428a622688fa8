import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tutelage.cli import main
from tutelage.evaluation import rollout
from tutelage.inspection import inspect
from tutelage.inspection.journey import travel
from tutelage.inspection.responses import histories, responses, step_sizes, updates_along
from tutelage.optimizees import optimizee


def test_sgd_answers_with_the_gradient():
    sgd = optax.sgd(0.5)
    for kind, updates in updates_along(sgd).items():
        np.testing.assert_allclose(updates, -0.5 * histories()[kind], rtol=1e-5)
    now = np.linspace(-1, 1, 1_000)
    for updates in responses(sgd, now).values():
        np.testing.assert_allclose(updates, -0.5 * now, rtol=1e-5)
    np.testing.assert_allclose(step_sizes(sgd, np.array([1e-3, 10.0])), [5e-4, 5.0], rtol=1e-5)
    journey = travel(sgd, optimizee("mlp-digits"), 20)
    np.testing.assert_allclose(journey.learning_rates, 0.5, rtol=1e-4)
    assert not journey.saturated.any()


def test_adam_and_sign_descent_saturate():
    np.testing.assert_allclose(step_sizes(optax.adam(0.01), np.array([1e-3, 10.0])), 0.01, rtol=1e-3)
    alternating = updates_along(optax.adam(0.01))["alternating"]
    assert np.abs(alternating[-1]) < 0.1 * 0.01
    sign = travel(optax.chain(optax.scale_by_sign(), optax.scale(-0.01)), optimizee("mlp-digits"), 5)
    assert (sign.saturated == 1).all()
    assert jnp.isfinite(sign.learning_rates).all()


def test_the_rollout_is_the_one_of_an_evaluation():
    problem, adam = optimizee("rosenbrock-noisy"), optax.adam(0.01)  # whose optimizer sees another gradient
    losses, _ = rollout(adam, problem, jax.random.key(0), 30)
    np.testing.assert_allclose(travel(adam, problem, 30).losses, losses, rtol=1e-4)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("inspect") / "page.html"
    assert main(["inspect", "tutelage-1", "--out", str(path), "--steps", "40"]) == 0
    return path


def test_the_page_needs_no_other_file_and_has_everything(page, capsys):
    text = page.read_text()
    assert "src=" not in text
    assert "<link" not in text
    assert text.count("<svg") == 4
    assert "<b>tutelage-1</b> is one that was taught" in text
    assert "aligned-momentum, taught on" in text  # the card
    assert main(["inspect", "tutelage-1", "--out", str(page)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["inspect", "tutelag-1", "--out", str(page.with_name("x.html"))]) == 2
    assert "did you mean tutelage-1" in capsys.readouterr().err.replace("\n", " ")
    assert main(["inspect", "adam", "--steps", "0", "--out", str(page.with_name("x.html"))]) == 2


def test_a_rule_that_people_wrote_is_not_said_to_be_taught():
    assert "<b>lion</b> is another." in inspect("lion", optax.lion(1e-3), "bowl", optimizee("bowl"), 1)


def test_the_page_in_a_browser(page, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium or google-chrome")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,2000"]
    seen = tmp_path / "seen.png"
    subprocess.run([*command, f"--screenshot={seen}", page.as_uri()], check=True, capture_output=True, timeout=120)
    from matplotlib.image import imread

    pixels = imread(seen)[:, :, :3]
    assert pixels.shape[:2] == (2000, 1200)
    blue = (np.abs(pixels - np.array([0x2B, 0x5F, 0xA5]) / 255) < 0.05).all(axis=2)  # its own curves
    rows = np.flatnonzero(blue.any(axis=1))
    assert blue.sum() > 1_000
    assert rows[-1] - rows[0] > 900  # in figures all down the page
