"""The pages in a real headless Chromium: drawn without an error, usable, and asking nobody for anything."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pages.reading import charts, sections

HOVER = """
const cell = document.querySelector(arguments[0] + ' .nsewdrag').getBoundingClientRect();
return [cell.left + cell.width * arguments[1], cell.top + cell.height * arguments[2]];
"""


def until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first value that holds, which must come in time."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "the page did not get there in time"
        time.sleep(0.05)
    return found


def opened(browser: Any, page: Path) -> None:
    """Show the page until all its figures are drawn; the logs begin anew."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())
    until(lambda: browser.execute_script("return document.documentElement.dataset.drawn"))


def hovered(browser: Any, chart: str, across: float, down: float) -> str:
    """What is told when the mouse is over a place of the first panel of a figure."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    browser.execute_script(
        "document.getElementById(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})", chart
    )
    time.sleep(0.2)
    x, y = browser.execute_script(HOVER, f"#{chart}", across, down)
    for away in (3, 0):  # the mouse has to move
        pointer = ActionBuilder(browser)
        pointer.pointer_action.move_to_location(int(x + away), int(y))
        pointer.perform()
    ActionChains(browser).pause(0.1).perform()
    script = "return [...document.querySelectorAll(arguments[0])].map((text) => text.textContent).join(' ')"
    return until(lambda: browser.execute_script(script, f"#{chart} .hoverlayer text"), 10.0)


def requests(browser: Any) -> list[str]:
    """The addresses of all requests since the page was opened."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent]


@pytest.fixture(params=["robust/report", "adaptive/report", "swept/compare"])
def page(request: pytest.FixtureRequest) -> Path:
    """Both kinds of page."""
    run, _, name = request.param.partition("/")
    return request.getfixturevalue(run) / f"{name}.html"


def test_everything_is_drawn_and_nothing_is_fetched(browser: Any, page: Path) -> None:
    opened(browser, page)
    assert browser.execute_script("return document.documentElement.dataset.drawn") == str(len(charts(page)))
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    far = [url for url in requests(browser) if not url.startswith(("data:", "blob:"))]
    assert far == [page.as_uri()]
    for name in sections(page):
        assert browser.find_element("css selector", f"section#{name} h2").is_displayed(), name
    for name in charts(page):
        box = browser.find_element("css selector", f"#{name} .main-svg")
        assert box.is_displayed() and box.size["width"] > 250 and box.size["height"] > 200, name


def test_no_page_is_wider_than_the_window(browser: Any, page: Path) -> None:
    opened(browser, page)
    spans = "return arguments[0].map((box) => [box.scrollWidth, box.clientWidth])"
    boxes = browser.find_elements("css selector", "html, .chart")
    try:
        for width in (400, 1000, 1440, 2200):
            size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            until(lambda: all(has <= holds + 1 for has, holds in browser.execute_script(spans, boxes)), 10.0)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_sections_of_a_run(browser: Any, robust: Path) -> None:
    opened(browser, robust / "report.html")
    shown = [part.get_attribute("id") for part in browser.find_elements("css selector", "main > section")]
    wanted = (
        "headline accuracy profile clients classes lorenz models class-weights weights cuts generator cost "
        "faults origin"
    )
    assert shown == wanted.split()


def test_the_slider_changes_the_profile(browser: Any, robust: Path) -> None:
    page = robust / "report.html"
    opened(browser, page)
    figure = charts(page)["profile-chart"]
    shown = "return document.getElementById('profile-chart').data[1].y"
    assert browser.execute_script(shown) == figure["data"][1]["y"]
    (slider,) = figure["layout"]["sliders"]
    browser.execute_script(
        "document.getElementById('profile-chart').scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    time.sleep(0.5)
    first = browser.find_element("css selector", "#profile-chart .slider-rail-touch-rect")
    from selenium.webdriver import ActionChains

    left = -first.size["width"] / 2 + 8
    ActionChains(browser).move_to_element_with_offset(first, left, 0).click().perform()
    until(lambda: browser.execute_script(shown) == slider["steps"][0]["args"][0]["y"][0], 10.0)
    assert "round 1: mean" in browser.find_element("css selector", "#profile-chart .legend").text


def test_hovering_tells_who_a_client_is(browser: Any, robust: Path) -> None:
    page = robust / "report.html"
    opened(browser, page)
    cells = charts(page)["clients-chart"]["data"][0]
    told = hovered(browser, "clients-chart", 0.95, 0.05)  # the best client's last round
    who = cells["y"][-1]
    assert who.split(":")[0] in told and "training samples" in told
    assert f"round 4: accuracy {cells['z'][-1][-1]:.3f}" in told
