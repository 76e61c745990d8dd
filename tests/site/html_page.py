"""A page as the standard library's parser sees it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

ROOT = Path(__file__).resolve().parents[2]

LOADED = {"img": "src", "script": "src", "iframe": "src", "video": "src", "source": "src", "object": "data"}
RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload"}  # of a <link> that is fetched


class Page(HTMLParser):
    """links: what can be clicked. loaded: what the browser fetches by itself. images: attributes of each picture.
    names: what an address can point to behind its #. summaries: of what is folded. open: how much is unfolded."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.loaded, self.images, self.names, self.folded, self.open = [], [], [], set(), 0, 0
        self.base = ""
        self.feed(text)
        self.loaded += re.findall(r"url\(['\"]?([^)'\"]+)", "".join(re.findall(r"(?s)<style.*?</style>", text)))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.names |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "base":
            self.base = given["href"]
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if given.get(LOADED.get(tag)):
            self.loaded.append(given[LOADED[tag]])
        if tag == "link" and RELATIONS & set(given.get("rel", "").split()):
            self.loaded.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if tag == "details":
            self.folded += 1
            self.open += "open" in given


def pages(site):
    """All of the site's: {path from its root: Page}."""
    return {str(file.relative_to(site)): Page(file.read_text()) for file in sorted(site.rglob("*.html"))}


def place(page: str, link: str, base: str = "") -> tuple[str, str]:
    """Where a link of a page leads: a path from the site's root, and the name behind the #."""
    parts = urlsplit(urljoin(urljoin(f"/{page}", base), link))
    path = parts.path[1:]
    return (path + "index.html" if path == "" or path.endswith("/") else path), parts.fragment


def elsewhere(link: str) -> bool:
    """Whether an address is of another host; what is inside the page itself (data:) is not."""
    return bool(urlsplit(link).netloc) or urlsplit(link).scheme in ("http", "https")
