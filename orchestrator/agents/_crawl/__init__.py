"""The parts of the web crawler. Those above the line are pure, and know of no run.

urls      what an address is, in one spelling only
scope     which addresses a crawl may fetch
heed      how work learns that it is to end
intake    taking in a body, compressed or not, up to a bound
robots    robots.txt
sitemap   sitemaps
text      from bytes to characters
effort    how much of a page can be parsed in bounded time
page      what is read out of an HTML page
frontier  what is fetched next, and when
----
fetch     one request: the bounded answer, and whether to try again
asking    paced and repeated requests, each an operation
reading   robots.txt, sitemaps and pages, in threads that end when nobody waits
book      what is kept of each page
"""
