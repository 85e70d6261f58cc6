"""What stands around texts of the web: menus, cookie notices, calls to subscribe, legal footers. Made of the templates below,
which have few slots, so that the same sentences come in many documents.
"""

import re

from harness.data.draws import Draws

SLOT = re.compile(r"\{(\w+)\}")
SLOTS = {
    "site": ("The Daily Ledger", "Harbor News", "Northgate Post", "Valley Tribune", "Open Prairie"),
    "section": ("Home", "News", "Politics", "Business", "Sports", "Opinion", "Weather", "Archive"),
    "year": ("2009", "2012", "2015", "2018", "2021"),
    "count": ("3", "12", "48", "107", "256"),
    "minutes": ("2", "4", "7"),
    "company": ("Ledger Media LLC", "Harbor Holdings Inc.", "Northgate Publishing Group"),
}
TEMPLATES = (
    "{section} | {section} | {section} | {section} | About us | Contact | Log in | Register\n",
    "Skip to main content\nToggle navigation\nSearch {site}\n",
    "We use cookies and similar technologies to improve your experience, to show relevant advertising and to measure traffic. "
    'By clicking "Accept all" you consent to our use of cookies. You can change your settings at any time.\n'
    "Accept all | Reject all | Manage preferences\n",
    "Sign up for our newsletter and get the best of {site} in your inbox every morning. No spam, unsubscribe at any time.\n"
    "Enter your e-mail address: [            ] Subscribe\n",
    "Share this article: Facebook | Twitter | LinkedIn | E-mail | Print\n{count} comments | {minutes} min read\n",
    "You have read {minutes} of {count} free articles this month. Already a subscriber? Log in to continue reading.\n",
    "Related articles in {section}:\n- Read more\n- Read more\n- Read more\n",
    "Please enable JavaScript in your browser to view this page. Click here if you are not redirected automatically.\n",
    "Copyright (c) {year} {company} All rights reserved. This material may not be published, broadcast, rewritten or "
    "redistributed.\nTerms of Use | Privacy Policy | Do Not Sell My Personal Information | Accessibility | Sitemap\n",
    "{site} is a registered trademark of {company} Views expressed in the {section} section are those of the authors.\n",
    "Previous | 1 | 2 | 3 | ... | {count} | Next\nBack to top\n",
    "Loading...\nAdvertisement\n",
)


def boilerplate(document: bytes, others: object, draws: Draws) -> bytes:
    """Filled templates in random order, the last one cut where `document` ends."""
    found: list[bytes] = []
    left = len(document)
    while left > 0:
        found.append(SLOT.sub(lambda slot: draws.one_of(SLOTS[slot[1]]), draws.one_of(TEMPLATES)).encode())
        left -= len(found[-1])
    return b"".join(found)[: len(document)]


PART = boilerplate
