"""A browser without a window, where the machine has one."""

import html
import re
import shutil
import subprocess
from pathlib import Path


def browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def dumped(folder: Path, page: str, script: str = "") -> str:
    """The title that a page has in the browser after it has run `script`, which its policy would not
    let in. Errors of any script of the page become the title.
    """
    text = re.sub("script-src '[^']*'", "script-src 'unsafe-inline'", page, count=1)
    return shown(folder, text.replace("</body>", f"<script>{{{script}}}</script></body>", 1))


def shown(folder: Path, page: str, *, dark: bool = False) -> str:
    """The title that a page has in the browser, on a dark screen or a light one, when all of it is
    there; or the error of a script.
    """
    watch = '<script>addEventListener("error", e => { document.title = "error: " + e.message; });'
    file = folder / "page.html"
    text = page.replace("<head>", f"<head>{watch}</script>", 1)
    file.write_bytes(text.encode(errors="backslashreplace"))
    command = [
        str(browser()), "--headless", "--no-sandbox", "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    found = re.search("<title>(.*?)</title>", done.stdout.decode(errors="replace"), re.S)
    assert found, done.stderr[-2000:]
    return html.unescape(found[1])
