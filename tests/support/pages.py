"""A page as a browser reads it, and what every page has to be: whole, and nothing but itself."""

import html
import html.parser
import json
import os
import re
import shutil
import subprocess

from experiments.run.figure_svg import COLOURS

_VOID = {"meta", "link", "br", "img", "hr", "input"}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Page(html.parser.HTMLParser):
    """Elements that are open, those that were, and every address in an attribute."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.figures, self.ids, self.addresses, self.tags = [], {}, [], [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.ids += [given["id"]] if "id" in given else []
        for name in ("src", "href", "xlink:href", "action", "data"):
            self.addresses += [given[name]] if name in given else []
        if tag == "figure":
            self.figures[given["id"]] = []
        elif "figure" in self.open:
            self.figures[list(self.figures)[-1]].append(tag)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_complete(page):
    """Every figure is drawn, and nothing is from elsewhere."""
    found = Page(page)
    assert found.open == []
    assert all("svg" in inner and "path" in inner for inner in found.figures.values())
    assert len(set(found.ids)) == len(found.ids)
    assert found.addresses and {address[0] for address in found.addresses} == {"#"}
    assert {address[1:] for address in found.addresses} <= set(found.ids)
    assert not found.tags & {"script", "link", "iframe", "img", "image", "object"}
    assert not re.search(r"@import|url\((?!#)", page)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(found.ids)
    # Only names of formats, and never fetched.
    assert set(re.findall(r"https?://[\w./]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def check_colours(page):
    """All colours are the page's, each in light and in dark."""
    styles = re.findall(r'style="([^"]*)"', page)
    colours = {c for style in styles for c in re.findall(r"#[0-9a-f]{6}", style)}
    assert not colours & set(COLOURS) and colours <= {"#000000", "#ffffff"}
    for name in re.findall(r"var\((--[\w-]+)\)", page):
        assert page.count(f"{name}: #") == 2, name  # In light, and in dark.


def chromium(folder, path, *flags):
    """What Chromium says and prints of a file."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", f"--user-data-dir={folder}", "--enable-logging=stderr", *flags]
    done = subprocess.run(
        [*command, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done


def check_shown(folder, path, scheme, figures):
    """A browser shows every figure of a page of a file, in ``light`` or ``dark``, without an error,
    and its words apart.

    What the browser leaves goes to the folder.
    """
    flags = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]
    flags = flags if scheme == "dark" else []
    done = chromium(folder / "profile", path, *flags)
    assert ":CONSOLE" not in done.stderr, done.stderr

    # The same page with a script that measures what is shown.
    probe = """<script>
    console.log("probe");
    const told = [...document.querySelectorAll("figure")].map(figure => {
      const box = figure.querySelector("svg").getBoundingClientRect();
      const text = figure.querySelector("svg text");
      return [figure.id, box.width, box.height, getComputedStyle(text).fill];
    });
    const over = [...document.querySelectorAll("figure")].flatMap(figure => {
      const texts = [...figure.querySelectorAll("svg text")];
      const boxes = texts.map(text => text.getBoundingClientRect());
      return texts.flatMap((text, i) => boxes.slice(0, i).flatMap((other, j) =>
        Math.min(other.right, boxes[i].right) - Math.max(other.left, boxes[i].left) > 1 &&
        Math.min(other.bottom, boxes[i].bottom) - Math.max(other.top, boxes[i].top) > 3
          ? [[figure.id, text.textContent, texts[j].textContent]] : []));
    });
    const colours = getComputedStyle(document.body);
    document.body.innerHTML = "<pre>" + JSON.stringify(
      {told, over, surface: colours.backgroundColor, ink: colours.color,
       wide: document.documentElement.scrollWidth}) + "</pre>";
    </script>"""
    without = re.sub(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8")
    )
    (folder / "probed.html").write_text(without.replace("</body>", probe + "</body>"))
    done = chromium(folder / "profile", folder / "probed.html", "--window-size=900,800", *flags)
    assert '"probe"' in done.stderr  # So that an error would have been seen above.
    found = json.loads(html.unescape(re.search(r"<pre>(\{.*\})</pre>", done.stdout).group(1)))
    assert [name for name, *_ in found["told"]] == figures
    assert all(width > 300 and height > 100 for _, width, height, _ in found["told"])
    assert not found["over"], found["over"]  # No word lies over another.
    assert found["wide"] <= 900
    surface = [int(n) for n in re.findall(r"\d+", found["surface"])]
    assert (sum(surface) > 600) == (scheme == "light")
    for *_, fill in found["told"]:
        ink = [int(n) for n in re.findall(r"\d+", fill)]
        assert abs(sum(ink) - sum(surface)) > 200
