"""Photograph a page of fedkd in a headless Chromium (Debian's chromium and chromium-driver, and selenium).

python docs/pictures/take.py runs/demo/compare.html docs/pictures/compare.png
"""

import argparse
import base64
import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait


def opened(page: Path, width: int, height: int) -> Any:
    """A browser that shows the page, all its figures drawn."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "hide-scrollbars",
        f"window-size={width},{height}",
    ):
        options.add_argument(f"--{word}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(page.resolve().as_uri())
    drawn = "return document.documentElement.dataset.drawn"
    WebDriverWait(driver, 60).until(lambda browser: browser.execute_script(drawn))
    return driver


def take(page: Path, picture: Path, width: int, height: int) -> None:
    """Write the top of the page as PNG; height 0: all of it."""
    driver = opened(page, width, height or 1000)
    try:
        if not height:
            height = driver.execute_script("return document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        told = {"format": "png", "clip": clip, "captureBeyondViewport": True}
        data = driver.execute_cdp_cmd("Page.captureScreenshot", told)["data"]
    finally:
        driver.quit()
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    few = image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)  # a third of the bytes
    few.save(picture, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1900, help="0: the whole page")
    given = parser.parse_args()
    take(given.page, given.picture, given.width, given.height)
