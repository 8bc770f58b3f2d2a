"""What browsers are served: the page, its parts, and the JavaScript client (`wup.js`, `wup.d.ts`).

Plain files, no build step; they are read once and served from memory.
"""

from wup.web.assets import CONTENT_SECURITY_POLICY, Asset, assets

__all__ = ["CONTENT_SECURITY_POLICY", "Asset", "assets"]
