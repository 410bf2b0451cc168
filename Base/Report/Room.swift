// room Report
