"""Review in a browser: one page that shows the scene of Slicer's own libraries, rendered on this machine.

`server` answers the browser and lets nobody in who may not; every viewer is a process of its own (`worker`)
with a `viewer.Viewer`, or a reader of a study (`reading`). It needs the extra `ctenhance[view]`; of the
package only `commands` imports it.
"""
